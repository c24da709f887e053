"""A signal handler, or a finaliser, that uses the ORM in the middle of the wrapper's own methods.

It runs in the same thread, between any two bytecodes of `connect`, `close` and what they call, or
in the middle of a statement of SQLite. What has been taken off the wrapper must not be found by it,
and what it leaves there is its own.
"""

from __future__ import annotations

import dis
import functools
import itertools
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.db import Error, InterfaceError, transaction
from django.db.backends.signals import connection_created

from pooling.backends import base, cursors, transaction_scope
from pooling.core.config import SCOPES
from pooling.core.pool import Pool
from pooling.core.worker_threads import WORKERS
from tests.backends.test_interrupts import (
    check,
    numbers,  # noqa: F401 - a fixture
    request,
    request_with_a_cursor_left_open,
    request_with_an_error,
    select,
    transaction_that_commits,
)
from tests.support.databases import MARIADB_SLOW, PATIENCE, eventually
from tests.support.injection import Interrupter, every_step, everywhere, untraced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from django.db.backends.base.base import BaseDatabaseWrapper

    from tests.support.databases import Database, SqliteDatabase

FILES = tuple(Path(module.__file__) for module in (base, cursors, transaction_scope))
ALIAS = "interrupted"
SIZE = 4
"""Enough for the story, for a handler, and for two that are stolen."""

EXPECTED = (Error, AttributeError)
"""What a story may fail with when the connection is closed in the middle of it. Without a pool it
is the same: `connection.connection` is None all of a sudden."""


# ---- what a handler does -----------------------------------------------------------------------


def query(wrapper: BaseDatabaseWrapper) -> None:
    select(wrapper)


def query_and_close(wrapper: BaseDatabaseWrapper) -> None:
    select(wrapper)
    wrapper.close()


def close(wrapper: BaseDatabaseWrapper) -> None:
    wrapper.close()


def close_and_query(wrapper: BaseDatabaseWrapper) -> None:
    wrapper.close()
    select(wrapper)


ACTS = [query, query_and_close, close, close_and_query]


class Handler(Interrupter):
    """Runs a function before the nth bytecode, or line, like CPython a signal handler."""

    def __init__(self, strike_at: int, act: Callable[[], None], event: str) -> None:
        super().__init__(strike_at, event=event, folders=FILES)
        self._act = act
        self.reachable = True
        """Whether CPython runs handlers there; a trace function gets to more places."""

    def _step(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == self._event:
            self.left -= 1
            if self.left == 0:
                code = frame.f_code
                self.reachable = frame.f_lasti in handler_points(code)
                self.where = f"{code.co_qualname}:{frame.f_lineno}, {frame.f_lasti}"
                sys.settrace(self._outside)
                self._act()
        return self._step


@functools.cache
def handler_points(code: CodeType) -> frozenset[int]:
    """Return the offsets before which CPython looks for signals: after calls, at loops' beginnings,
    and where the function begins."""
    instructions = list(dis.get_instructions(code))
    found = set()
    for before, each in itertools.pairwise(instructions):
        if before.opname.startswith("CALL") or before.opname == "RESUME":
            found.add(each.offset)
        if "JUMP_BACKWARD" in each.opname:
            found.add(each.argval)
    return frozenset(found)


class Watch:
    """Sees two owners of one connection: the pool's driver is asked to work on what is in use."""

    def __init__(self, wrapper: Any) -> None:
        self.pool = wrapper.resolve_pool()
        self.wrapper = wrapper
        self.stolen: list[Any] = []
        """Leases of another user, who takes what is idle as soon as the handler has run."""
        self.faults: list[str] = []
        self._in_use: list[Any] = []
        driver = self.pool._driver
        for name in ("reset", "close_cursors", "mark_baseline"):
            setattr(driver, name, functools.partial(self._use, name, getattr(driver, name)))
        driver.close = functools.partial(self._close, driver.close)
        wrapper.make_cursor = self._look_at_cursor

    def steal(self) -> None:
        while self.pool.stats().idle and len(self.stolen) < 2:
            self.stolen.append(self.pool.acquire(0))

    def faults_afterwards(self, handler: Handler) -> list[str]:
        """Say what is wrong with the wrapper, and with the pool when nothing uses it any more."""
        found, self.faults = self.faults, []
        wrapper, pool = self.wrapper, self.pool
        lease, connection = wrapper._lease, wrapper.connection
        if connection is not None and (lease is None or lease.connection is not connection):
            found.append("the wrapper goes on with a connection that is not its own")
        wrapper.close()
        while self.stolen:
            self.stolen.pop().release()
        if handler.reachable and pool.stats().leased:
            found.append("a lease was orphaned")
        recovered = pool.stats().recovered
        pool._tasks.maintain()  # finds what is left by strikes that only a trace function makes
        leases = [pool.acquire(5.0) for _ in range(2)]
        if leases[0].connection is leases[1].connection:
            found.append("two leases have the same connection")
        for each in leases:
            each.release()
        # A worker may be opening what the handler's acquire has left to it.
        eventually(lambda: not pool.stats().connecting)
        stats = pool.stats()
        if stats.leased or stats.size != stats.idle:
            found.append(f"the pool is not whole: {pool!r}")
        if handler.reachable and stats.recovered > recovered:
            found.append(f"{stats.recovered} leases had to be recovered")
        return found

    def _check(self, what: str, connection: Any) -> None:
        if any(lease.connection is connection for lease in self.stolen):
            self.faults.append(f"{what} of another user's connection")

    def _use(self, name: str, method: Callable[..., Any], connection: Any, *args: Any) -> Any:
        self._check(name, connection)
        self._in_use.append(connection)
        try:
            return method(connection, *args)
        finally:
            self._in_use.remove(connection)

    def _close(self, method: Callable[[Any], None], connection: Any) -> None:
        if connection in self._in_use:
            self.faults.append("closed in use")
        if self.wrapper.connection is connection and not self.wrapper.in_atomic_block:
            self.faults.append("closed while on the wrapper")
        method(connection)

    def _look_at_cursor(self, cursor: Any) -> Any:
        if not is_closed(cursor):
            self._check("a cursor", cursor.connection)
        return type(self.wrapper).make_cursor(self.wrapper, cursor)


def is_closed(cursor: Any) -> bool:
    if hasattr(cursor, "closed"):
        return bool(cursor.closed)
    if not isinstance(cursor, sqlite3.Cursor):  # one of MySQL's
        return getattr(cursor, "cursor", cursor).connection is None
    try:
        cursor.fetchone()
    except sqlite3.ProgrammingError:
        return True
    return False


@pytest.fixture(autouse=True)
def _workers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers work at once, in threads of their own, so that nothing is left to chance."""

    def run(job: Callable[[], None]) -> None:
        worker = threading.Thread(target=job)
        untraced(worker.start)
        untraced(worker.join)

    monkeypatch.setattr(WORKERS, "run", run)


STORIES = [
    request,
    request_with_a_cursor_left_open,
    request_with_an_error,
    transaction_that_commits,
]


@pytest.mark.slow
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("story", [request, request_with_a_cursor_left_open])
def test_a_handler_at_any_bytecode_finds_no_half_taken_connection(
    numbers: Database,  # noqa: F811
    story: Callable[[BaseDatabaseWrapper], None],
    act: Callable[[BaseDatabaseWrapper], None],
    scope: str,
) -> None:
    """Scenario 55."""
    handle_everywhere(numbers, story, act, "opcode", at_least=100, scope=scope)


@pytest.mark.slow
@pytest.mark.parametrize("act", ACTS)
def test_a_handler_at_any_line_of_a_first_lease_finds_no_half_taken_connection(
    numbers: Database,  # noqa: F811
    act: Callable[[BaseDatabaseWrapper], None],
) -> None:
    """What comes before: receivers of `connection_created`, and the baseline of the session."""
    event = "opcode" if numbers.vendor == "sqlite" else "line"
    with receiving():
        handle_everywhere(numbers, request, act, event, cold=True, at_least=50)


@contextmanager
def receiving() -> Iterator[None]:
    def receive(connection: BaseDatabaseWrapper, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    connection_created.connect(receive)
    try:
        yield
    finally:
        connection_created.disconnect(receive)


@MARIADB_SLOW
@pytest.mark.parametrize("scope", ["request", pytest.param("transaction", marks=pytest.mark.slow)])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("story", [request_with_an_error, transaction_that_commits])
def test_a_handler_at_any_line_finds_no_half_taken_connection(
    numbers: Database,  # noqa: F811
    story: Callable[[BaseDatabaseWrapper], None],
    act: Callable[[BaseDatabaseWrapper], None],
    scope: str,
) -> None:
    handle_everywhere(numbers, story, act, "line", at_least=20, scope=scope)


def handle_everywhere(
    database: Database,
    story: Callable[[BaseDatabaseWrapper], None],
    act: Callable[[BaseDatabaseWrapper], None],
    event: str,
    *,
    cold: bool = False,
    at_least: int,
    scope: str = "request",
) -> None:
    """Run a story with a handler at one place after the other.

    Args:
        cold: each time with a pool that has no connections.
    """
    report: list[str] = []
    name = f"{story.__name__} {act.__name__}"
    options = {"max_size": SIZE, "timeout": 5.0, "name": name, "scope": scope}
    wrapper = database.wrapper(ALIAS, pool=options)
    watch = Watch(wrapper)

    def once(strike_at: int) -> str | None:
        nonlocal watch
        if watch.pool.closed:
            watch = Watch(wrapper)

        def handle() -> None:
            with suppress(Error):
                act(wrapper)
            watch.steal()

        handler = Handler(strike_at, handle, event)
        with handler:
            try:
                story(wrapper)
            except EXPECTED:
                if handler.where is None:
                    raise
        if faults := watch.faults_afterwards(handler):
            report.append(f"{handler.where}: {'; '.join(faults)}")
        if cold or faults:
            watch.pool.close()
        return handler.where

    with database.known_as(ALIAS, wrapper):
        if not cold:
            story(wrapper)
        steps = every_step(once)
    assert not report, f"{len(report)} of {steps}:\n" + "\n".join(report[:10])
    assert steps >= at_least


# ---- two interrupts ----------------------------------------------------------------------------


@MARIADB_SLOW
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "method"), [(Pool, "discard"), (cursors.OpenCursors, "take")])
def test_a_second_interrupt_in_the_repair_of_the_first_loses_nothing(
    numbers: Database,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    method: str,
    when: str,
) -> None:
    """Scenario 55: the first one comes at any bytecode; the second one when the repair calls
    something."""
    original = getattr(owner, method)
    armed: list[Interrupter] = []
    struck = []

    def interrupted(self: Any, *args: Any) -> Any:
        strikes = bool(armed and armed[0].where)
        if strikes:
            armed.clear()
            struck.append(when)
            if when == "before":
                raise KeyboardInterrupt
        result = original(self, *args)
        if strikes:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, method, interrupted)

    def once(interrupter: Interrupter) -> None:
        with numbers.alias(ALIAS, pool={"max_size": 1, "timeout": 5.0}) as wrapper:
            armed[:] = [interrupter]
            with interrupter, suppress(KeyboardInterrupt):
                request_with_a_cursor_left_open(wrapper)
            armed.clear()
            try:
                check(wrapper, {0})
            except BaseException:
                wrapper.resolve_pool().close()  # the next one begins with a pool that is whole
                raise

    event = "opcode" if numbers.vendor == "sqlite" else "line"
    everywhere(once, event=event, folders=FILES, at_least=20)
    assert struck


# ---- real signals ------------------------------------------------------------------------------

PROGRAM = """
import random, signal, sys, time
import django
from django.conf import settings

settings.configure(DATABASES={"default": {
    "ENGINE": "pooling.backends.sqlite3", "NAME": sys.argv[1],
    "OPTIONS": {"pool": {"max_size": 5, "timeout": 5.0, "min_size": 0}},
}})
django.setup()
from django.db import Error, connection
from pooling import get_pool

expected = (Error, AttributeError)
handled = 0

def select():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()

def handle(*_):
    global handled
    handled += 1
    try:
        if handled % 3:
            select()
        if handled % 2:
            connection.close()
    except expected:
        pass
    finally:
        if time.monotonic() < deadline:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 3e-4))

pool = get_pool()
leases = [pool.acquire() for _ in range(5)]
for lease in leases:
    lease.connection.execute("SELECT 1")  # so that SQLite compiles it outside of handlers
    lease.release()
signal.signal(signal.SIGALRM, handle)
deadline = time.monotonic() + 3.0
signal.setitimer(signal.ITIMER_REAL, 0.001)
while time.monotonic() < deadline:
    try:
        select()
        connection.close()
    except expected:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
connection.close()
stats = pool.stats()
assert handled > 1000, handled
pool._tasks.maintain()
stats = pool.stats()
assert stats.leased == 0, f"orphaned: {stats}"
# Not none: what a handler gives back while its thread holds the pool's lock is recovered later.
assert stats.recovered < handled / 100, f"recovered: {stats}"
leases = [pool.acquire() for _ in range(5)]
assert len({id(lease.connection) for lease in leases}) == 5
for lease in leases:
    lease.release()
print("whole")
"""


def test_an_interval_timer_whose_handler_uses_the_orm_harms_nothing(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PROGRAM, str(tmp_path / "db.sqlite3")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 3,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "whole\n"), result.stderr[-3000:]


# ---- in the middle of SQLite's own code ----------------------------------------------------------


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("act", ["close", "close_if_unusable_or_obsolete", "_close", "cursor"])
def test_what_runs_in_the_middle_of_a_statement_leaves_its_connection_alone(
    sqlite: SqliteDatabase, act: str, scope: str, many: bool
) -> None:
    """As a signal handler or a finaliser may, in the authorizer: SQLite would crash."""
    wrapper = sqlite.wrapper(pool={"max_size": 1, "scope": scope})
    refused = []

    def disturb() -> None:
        try:
            getattr(wrapper, act)()
        except InterfaceError:
            refused.append(act)

    with wrapper.cursor() as cursor:
        connection = wrapper.connection
        connection.create_function("disturb", 0, disturb)
        if many:
            cursor.execute("CREATE TEMPORARY TABLE note (text)")
            cursor.executemany("INSERT INTO note VALUES (disturb() || %s)", [("1",), ("2",)])
        else:
            cursor.execute("SELECT disturb()")
        assert wrapper.connection is connection
        assert wrapper.resolve_pool().stats().leased == 1
    assert refused == [act] * (1 + many) * (act == "cursor")
    wrapper.close()
    assert wrapper.connection is None
    assert wrapper.resolve_pool().stats().leased == 0


def test_what_runs_in_the_middle_of_a_statement_leaves_its_transaction_alone(
    sqlite: SqliteDatabase,
) -> None:
    with sqlite.alias("pooled", pool={"max_size": 1}) as wrapper:
        with transaction.atomic(using="pooled"), wrapper.cursor() as cursor:
            connection: Any = wrapper.connection
            connection.create_function("disturb", 0, wrapper.close)
            cursor.execute("SELECT disturb()")
            assert connection.execute("SELECT 1").fetchone() == (1,)
        wrapper.close()
        assert wrapper.resolve_pool().stats().leased == 0
