"""Replicas: what is read where, on a real primary and its standby.

Scenario 70.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Self

import pytest
from django.contrib.auth.models import Group
from django.core.signals import request_finished, request_started
from django.db import Error, connections, transaction
from django.http import HttpResponse
from django.test import RequestFactory, override_settings

from pooling import routers
from pooling.checks.options import replica_problems
from pooling.middleware import STICKY_COOKIE, ReadYourWritesMiddleware
from pooling.registry import REGISTRY
from tests.support.databases import PATIENCE, PostgresDatabase, eventually
from tests.support.faulty_servers import Standby, primary_and_standby
from tests.support.servers import execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpRequest

    from tests.conftest import DatabaseSettings
    from tests.support.postgres import PrivatePostgres

    Servers = tuple[PrivatePostgres, Standby]

POOL = {"timeout": PATIENCE, "replay_reads": True, "max_size": 4}


class Router(routers.ReplicaRouter):
    """The default database of the tests is another one."""

    def primary_of(self, model: Any) -> str | None:
        return "primary"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """A primary and its standby; the last test promotes it."""
    with primary_and_standby() as (primary, standby):
        table = "CREATE TABLE auth_group (id serial PRIMARY KEY, name text)"
        execute(primary.url, table, "INSERT INTO auth_group (name) VALUES ('first')")
        standby.wait_for(primary)
        yield primary, standby


def database(server: PrivatePostgres, settings: DatabaseSettings, **changes: Any) -> Any:
    entry = {**server.database_settings("pooling.backends.postgresql"), **changes}
    return PostgresDatabase(settings(entry.pop("ENGINE"), **entry), server.url)


@contextmanager
def routed(
    servers: Servers, settings: DatabaseSettings, primary: dict[str, Any], **options: Any
) -> Iterator[None]:
    options = {"replicas": {"primary": ["replica", "other"]}, **options}
    with ExitStack() as stack:
        stack.callback(REGISTRY.close_database, "postgres")
        stack.enter_context(
            database(servers[0], settings, **primary).alias("primary", pool={**POOL, "name": "p"})
        )
        for alias in options["replicas"]["primary"]:
            standby = database(servers[1], settings)
            pool = {**POOL, "name": f"{alias}s", "fail_fast": 0}
            stack.enter_context(standby.alias(alias, pool=pool))
        stack.enter_context(
            override_settings(POOLING=options, DATABASE_ROUTERS=[f"{__name__}.Router"])
        )
        routers._WORK.set(None)
        eventually(lambda: request(where) != "primary")
        yield


@pytest.fixture
def replicas(
    servers: Servers, allow_databases: None, database_settings: DatabaseSettings
) -> Iterator[None]:
    servers[1].wait_for(servers[0])
    with routed(servers, database_settings, {}, stick_seconds=1.0, max_replica_lag=0.5):
        yield


def request(work: Callable[[], Any]) -> Any:
    """Do what Django does around a request."""
    request_started.send(None)
    try:
        return work()
    finally:
        request_finished.send(None)


def where() -> str:
    """Read, and return where."""
    return str(Group.objects.order_by("id")[0]._state.db)


def write() -> None:
    Group.objects.create(name="written")


@pytest.fixture
def stale(servers: Servers, replicas: None) -> Iterator[None]:
    """The standby gets nothing new until its probe says so."""
    execute(servers[1].url, "SELECT pg_wal_replay_pause()")
    yield
    execute(servers[1].url, "SELECT pg_wal_replay_resume()")


def test_reads_go_to_a_replica_and_writes_to_the_primary(replicas: None) -> None:
    assert request(where) in ("replica", "other")
    request(write)
    assert Group.objects.db_manager("primary").db == "primary"
    assert request(lambda: Group.objects.using("primary")[0]._state.db) == "primary"


def test_a_request_reads_what_it_has_written(stale: None) -> None:
    def work() -> None:
        assert where() != "primary"
        group = Group.objects.create(name="mine")
        assert Group.objects.filter(pk=group.pk).exists()
        group.refresh_from_db()
        with connections["primary"].cursor() as cursor:  # past the router
            cursor.execute("UPDATE auth_group SET name = 'yours' WHERE id = %s", [group.pk])
        assert Group.objects.get(pk=group.pk).name == "yours"

    request(work)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("UPDATE auth_group SET name = name WHERE false", True),
        ("SELECT pg_advisory_xact_lock(1)", True),
        ("SELECT count(*) FROM auth_group", False),
    ],
)
def test_a_write_past_the_router_counts(replicas: None, sql: str, expected: bool) -> None:
    def work() -> bool:
        with connections["primary"].cursor() as cursor:
            cursor.execute(sql)
        return where() == "primary"

    assert request(work) is expected


def test_transactions_and_locks_are_the_primarys(replicas: None) -> None:
    def work() -> None:
        with transaction.atomic("primary"):
            assert where() == "primary"
        assert where() != "primary"
        with transaction.atomic("other"):
            assert where() == "other"
        read = Group.objects.using("primary")[0]
        read.refresh_from_db()
        assert read._state.db == "primary"
        read = Group.objects.all()[0]
        read.name = "changed"
        read.save()  # where it is to be written, not where it was read
        assert read._state.db == "primary"

    def lock() -> str:
        with transaction.atomic("primary"):
            return str(Group.objects.select_for_update()[0]._state.db)

    request(work)
    assert request(lock) == "primary"


def test_other_work_reads_from_the_primary_for_a_while(replicas: None) -> None:
    write()
    assert where() == "primary"
    eventually(lambda: where() != "primary")
    routers.use_primary()
    assert where() == "primary"


def test_work_that_outlives_its_request_reads_from_the_primary_for_a_while() -> None:
    """Such as a task of asyncio, or a thread where threads inherit their starter's context."""
    routers.begin_work()
    outliving = copy_context()
    routers._request_finished()
    work = outliving.run(routers.current_work)
    work.written["default"] = time.monotonic() - 10.0
    assert not work.reads_primary("default", 5.0)
    assert work.reads_primary("default", 60.0)


def test_a_task_reads_what_it_has_written(replicas: None) -> None:
    from celery import Celery

    routers._connect_signals()  # which the router does where Celery is imported before it
    app = Celery("replicas", set_as_current=False)

    @app.task
    def work() -> list[str]:
        return [where(), *(where() for _ in [write()])]

    before, after = work.apply().get()
    assert (before != "primary", after) == (True, "primary")
    assert where() != "primary", "the next task has written nothing"


def test_the_replica_with_fewer_leases_is_read(replicas: None) -> None:
    pool: Any = connections["other"].resolve_pool()
    leases = [pool.acquire() for _ in range(2)]
    eventually(lambda: request(where) == "replica")
    assert {request(where) for _ in range(10)} == {"replica"}
    for lease in leases:
        lease.release()
    eventually(lambda: request(where) == "other")


def test_a_replica_that_lags_is_left_out_until_it_has_caught_up(
    stale: None, servers: Servers
) -> None:
    request(write)
    eventually(lambda: request(where) == "primary")
    time.sleep(0.6)  # it must not come back by itself
    assert request(where) == "primary"
    execute(servers[1].url, "SELECT pg_wal_replay_resume()")
    eventually(lambda: request(where) != "primary")


def test_a_cookie_makes_the_next_request_read_from_the_primary(replicas: None) -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        if request.method == "POST":
            write()
        return HttpResponse(where())

    middleware = ReadYourWritesMiddleware(answer)
    factory = RequestFactory()
    assert not middleware(factory.get("/")).cookies
    posted = middleware(factory.post("/"))
    cookie = posted.cookies[STICKY_COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", 1)
    factory.cookies[STICKY_COOKIE] = cookie.value
    again = middleware(factory.get("/"))
    assert (again.content, bool(again.cookies)) == (b"primary", False)
    eventually(lambda: middleware(factory.get("/")).content != b"primary")  # it has expired
    factory.cookies[STICKY_COOKIE] = "1:forged"
    assert middleware(factory.get("/")).content != b"primary"


def test_the_middleware_begins_a_request_under_asgi(replicas: None) -> None:
    async def answer(request: HttpRequest) -> HttpResponse:
        if request.method == "POST":
            await Group.objects.acreate(name="written")
        group = await Group.objects.order_by("id").afirst()
        return HttpResponse(group._state.db if group else "")

    async def post_and_get() -> tuple[HttpResponse, HttpResponse]:
        middleware: Any = ReadYourWritesMiddleware(answer)
        posted = await middleware(RequestFactory().post("/"))
        return posted, await middleware(RequestFactory().get("/"))

    posted, read = asyncio.run(post_and_get())
    assert (posted.content, STICKY_COOKIE in posted.cookies) == (b"primary", True)
    assert (read.content != b"primary", STICKY_COOKIE in read.cookies) == (True, False)


def test_a_mirror_of_the_tests_is_read_like_the_primary(replicas: None) -> None:
    primary = connections["primary"]
    for alias in ("replica", "other"):
        creation: Any = connections[alias].creation
        creation.set_as_test_mirror({**primary.settings_dict})
        connections[alias].settings_dict.update(PORT=primary.settings_dict["PORT"])
    eventually(lambda: request(where) != "primary")
    request(write)
    last = request(lambda: Group.objects.order_by("-id")[0])
    assert (last.name, last._state.db != "primary") == ("written", True)
    assert request(lambda: transaction.atomic("primary")(where)()) == "primary"  # a TestCase


def test_replicas_are_not_migrated_and_relate_to_their_primary(replicas: None) -> None:
    router: Any = Router()
    assert [router.allow_migrate(each, "auth") for each in ("primary", "replica", "default")] == [
        *(None, False, None)
    ]
    read, own, foreign = Group(), Group(), Group()
    read._state.db, own._state.db, foreign._state.db = "other", "primary", "default"
    assert router.allow_relation(read, own) is True
    assert router.allow_relation(read, foreign) is None
    assert router.db_for_read(Group, instance=foreign) is None
    assert router.db_for_write(Group, instance=foreign) is None


class Load:
    """Threads that read, and one that writes, until the end of the context."""

    def __init__(self, readers: int = 8) -> None:
        self.reads: list[str] = []
        self.failed_reads: list[str] = []
        self.writes: list[float] = []
        self.failed_writes: list[str] = []
        self._over = threading.Event()
        jobs = [self._read] * readers + [self._write]
        self._threads = [threading.Thread(target=job) for job in jobs]

    def _read(self) -> None:
        while not self._over.is_set():
            try:
                self.reads.append(request(where))
            except Error as error:
                self.failed_reads.append(repr(error))

    def _write(self) -> None:
        while not self._over.wait(0.001):
            try:
                request(write)
                self.writes.append(time.monotonic())
            except Error as error:
                self.failed_writes.append(repr(error))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE * 2)

    def progress(self, more: int = 200) -> None:
        """Wait for so many reads more."""
        goal = len(self.reads) + more
        eventually(lambda: len(self.reads) > goal)

    def reads_come_from(self, primary: bool) -> bool:
        return all((each == "primary") is primary for each in self.reads[-50:])


def test_a_replica_that_goes_is_left_out_and_comes_back(replicas: None, servers: Servers) -> None:
    """What may fail are the statements that are under way."""
    with Load() as load:
        load.progress()
        servers[1].stop("immediate")
        eventually(lambda: load.reads_come_from(primary=True))
        load.progress()
        servers[1].start()
        eventually(lambda: load.reads_come_from(primary=False))
    assert len(load.failed_reads) <= 2 * 8, load.failed_reads
    assert load.failed_writes == []


def test_a_promotion_under_load(
    servers: Servers, allow_databases: None, database_settings: DatabaseSettings
) -> None:
    """The primary's alias has both hosts; reads go on at the standby, which becomes the primary."""
    primary, standby = servers
    standby.wait_for(primary)
    hosts = {
        "HOST": f"{primary.host},{standby.host}",
        "PORT": f"{primary.port},{standby.port}",
        "OPTIONS": {"target_session_attrs": "read-write"},
    }
    with routed(servers, database_settings, hosts), Load() as load:
        load.progress()
        written = len(load.writes)
        primary.stop("immediate")
        stopped = time.monotonic()
        standby.promote()
        eventually(lambda: len(load.writes) > written + 20 and load.writes[-1] > stopped + 0.1)
        load.progress()
    assert load.failed_reads == []
    assert len(load.failed_writes) <= 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"replicas": ["a"]}, "must map the alias of a primary to a list of aliases"),
        ({"replicas": {"a": "b"}}, "must map the alias of a primary to a list of aliases"),
        ({"replicas": {"a": ["c"]}}, "DATABASES has no 'c' with a pool"),
        ({"replicas": {"a": ["b", "b"]}}, "'b' is there more than once"),
        ({"max_replica_lag": 0}, "must be a number of seconds above 0, not 0"),
        ({"stick_seconds": "5"}, "must be a number of seconds from 0, not '5'"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], problem: str) -> None:
    [found] = replica_problems(options, ["a", "b"])
    assert problem in found
    assert list(replica_problems({"replicas": {"a": ["b"]}, "stick_seconds": 0}, ["a", "b"])) == []
