"""Sessions that are ended, and servers that go away and come back, while eight threads query."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import pytest
from django.db import Error

from tests.support.database_fixtures import mariadb_entry
from tests.support.databases import PATIENCE, Database, PostgresDatabase, eventually
from tests.support.mariadb import MariaDatabase, PrivateMariaDB, missing
from tests.support.postgres import PrivatePostgres
from tests.support.timing import TRIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from pooling.core.pool import Pool
    from tests.conftest import DatabaseSettings

Server = PrivatePostgres | PrivateMariaDB
THREADS = 8
ROUNDS = 5
POOL = {"max_size": THREADS, "timeout": PATIENCE, "fail_fast": None, "ping_after": None}
"""Nothing is pinged for its rest: that would be a round trip for every request."""


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server to be stopped."""
    if request.param == "mariadb" and (reason := missing()):
        pytest.skip(reason)
    with PrivatePostgres() if request.param == "postgresql" else PrivateMariaDB() as server:
        if isinstance(server, PrivateMariaDB):
            server.execute("CREATE DATABASE shop")
        yield server


@pytest.fixture
def own(
    server: Server, database_settings: DatabaseSettings, allow_databases: None
) -> Iterator[Database]:
    """Its database."""
    database: Database
    if isinstance(server, PrivateMariaDB):
        database = MariaDatabase(mariadb_entry(server, "shop"), server)
    else:
        settings = server.database_settings("pooling.backends.postgresql")
        entry = database_settings(settings.pop("ENGINE"), **settings)
        database = PostgresDatabase(entry, server.url)
    yield database
    database.close()


class Failure(NamedTuple):
    """A request that failed."""

    began: float
    ended: float
    error: Error


class Crowd:
    """Eight threads that make one request after the other, except while somebody makes them rest.

    A request acquires a connection, selects and releases, as Django does it.

    Args:
        database: what they query.
        pool: options beside those of `POOL`.

    Attributes:
        failed: the requests that did.
        longest: the longest that a request took, in seconds.
        done: how many there were.
    """

    def __init__(self, database: Database, **pool: object) -> None:
        self._database = database
        self._pool = {**POOL, **pool}
        self._may_go = threading.Event()
        self._may_go.set()
        self._end = False
        self._resting = threading.Semaphore(0)
        self._lock = threading.Lock()
        self.failed: list[Failure] = []
        self.longest = 0.0
        self.done = 0
        self._executor = ThreadPoolExecutor(THREADS)

    def __enter__(self) -> Self:
        self._futures = [self._executor.submit(self._work) for _ in range(THREADS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._end = True
        self._may_go.set()
        self._executor.shutdown()
        for future in self._futures:
            future.result()

    def wrapper(self) -> Any:
        """Return another wrapper of the threads' pool."""
        return self._database.wrapper(pool=self._pool)

    def rest(self) -> None:
        """Let everybody finish the request at hand and begin no other."""
        self._may_go.clear()
        for _ in range(THREADS):
            assert self._resting.acquire(timeout=PATIENCE)

    def go_on(self) -> None:
        """Let everybody begin the next request, all at once."""
        self._may_go.set()

    def wait_for(self, count: int) -> None:
        """Wait until so many more requests are done."""
        goal = self.done + count
        deadline = time.monotonic() + PATIENCE
        while self.done < goal:
            assert time.monotonic() < deadline, f"{goal - self.done} requests to go"
            time.sleep(0.002)

    def _work(self) -> None:
        wrapper = self.wrapper()
        while not self._end:
            if not self._may_go.is_set():
                self._resting.release()
                self._may_go.wait()
            begin, error = time.monotonic(), None
            try:
                request(wrapper)
            except Error as caught:
                error = caught
            end = time.monotonic()
            with self._lock:
                self.done += 1
                self.longest = max(self.longest, end - begin)
                if error is not None:
                    self.failed.append(Failure(begin, end, error))


def request(wrapper: Any) -> None:
    try:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    finally:
        wrapper.close()


def open_all(database: Database) -> None:
    """Have the pool open a connection for every thread."""
    wrappers = [database.wrapper(pool=POOL) for _ in range(THREADS)]
    for wrapper in wrappers:
        wrapper.ensure_connection()
    for wrapper in wrappers:
        wrapper.close()


def end_all_sessions(database: Database) -> int:
    """End all sessions at the server; return their number when they are gone."""
    numbers = database.sessions()
    if database.vendor == "postgresql":
        database.execute(f"SELECT pg_terminate_backend(pid) FROM unnest(ARRAY{numbers}) AS pid")
        eventually(lambda: not any(map(psutil.pid_exists, numbers)))
    else:
        database.execute(*(f"KILL {number}" for number in numbers))
        eventually(lambda: not {*numbers} & {*database.sessions()})
    return len(numbers)


def test_all_idle_sessions_are_ended_five_times_and_no_request_fails(
    own: Database,
) -> None:
    """scenario 22: eight threads query; whenever all their sessions are idle, all are ended.

    No request is under way at that moment: one that is loses its session in any case.
    """
    ended = 0
    with Crowd(own) as crowd:
        for _ in range(ROUNDS):
            crowd.wait_for(THREADS * 10)
            crowd.rest()
            open_all(own)
            ended += end_all_sessions(own)
            crowd.go_on()
        crowd.wait_for(THREADS * 10)
    assert ended == THREADS * ROUNDS
    assert crowd.failed == []


def test_only_requests_under_way_fail_when_their_sessions_are_ended(own: Database) -> None:
    """scenario 21: whatever the threads are doing; nobody gets one of the dead later."""
    massacres: list[tuple[float, float]] = []
    with Crowd(own) as crowd:
        for _ in range(ROUNDS):
            crowd.wait_for(THREADS * 10)
            begin = time.monotonic()
            end_all_sessions(own)
            massacres.append((begin, time.monotonic()))
        crowd.wait_for(THREADS * 10)
    for failure in crowd.failed:
        assert any(failure.began < end and begin < failure.ended for begin, end in massacres)
    assert len(crowd.failed) <= THREADS * ROUNDS


def test_a_waiter_is_not_handed_a_session_that_has_ended(own: Database) -> None:
    """scenario 21: the holder has not noticed, and passes it on to whoever waits for it."""
    holder = own.wrapper(pool={**POOL, "max_size": 1})
    session = own.session(holder)
    pool: Pool[Any] = holder.resolve_pool()
    with ThreadPoolExecutor(1) as executor:
        waiter = own.wrapper(pool={**POOL, "max_size": 1})
        waiter.inc_thread_sharing()
        future = executor.submit(request, waiter)
        eventually(lambda: pool.stats().waiting == 1)
        own.terminate(session)
        holder.close()
        future.result(PATIENCE)
    assert pool.stats().connects == 2


def down_for(server: Server, seconds: float, meanwhile: Callable[[], None]) -> float:
    """Stop a server, start it again, and return how long it was down."""
    begin = time.monotonic()
    server.stop()
    meanwhile()
    time.sleep(max(begin + seconds - time.monotonic(), 0.0))
    server.start()
    return time.monotonic() - begin


def test_a_server_that_is_down_for_two_seconds_costs_no_request(
    own: Database, server: Server
) -> None:
    """scenario 21: a restart; scenario 29, and all are served within a second of its return.

    The threads rest while the server stops, and go on as soon as it is down.
    """
    too_late = []
    for _ in range(TRIES):
        with Crowd(own) as crowd:
            crowd.wait_for(THREADS * 5)
            crowd.rest()
            down = down_for(server, 2.0, crowd.go_on)
            crowd.wait_for(THREADS * 5)
        assert crowd.failed == []
        assert crowd.longest > 1.0  # they did wait for it
        too_late.append(crowd.longest - down)
        if too_late[-1] < 1:
            return
    pytest.fail(f"so much later than the server: {too_late}")
