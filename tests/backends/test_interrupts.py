"""An interrupt at any bytecode of the backends loses nothing, and leaves nobody else's connection.

As in `tests/core/test_every_opcode.py`, here for what lies between Django and the pool: scenario 7.
Django's own code is not interrupted: what it does then is the same without a pool.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.db import Error, transaction
from django.db.backends.signals import connection_created

import pooling.backends
from pooling.core.config import SCOPES
from tests.support.databases import MARIADB_SLOW, eventually
from tests.support.injection import everywhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper

    from tests.support.databases import Database
    from tests.support.injection import Interrupter

BACKENDS = Path(pooling.backends.__file__).parent
ALIAS = "interrupted"


def select(wrapper: BaseDatabaseWrapper) -> int:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM numbers")
        return cursor.fetchone()[0]


def insert(wrapper: BaseDatabaseWrapper) -> None:
    with wrapper.cursor() as cursor:
        cursor.execute("INSERT INTO numbers VALUES (1)")


# ---- what is interrupted -----------------------------------------------------------------------


def request(wrapper: BaseDatabaseWrapper) -> None:
    select(wrapper)
    wrapper.close_if_unusable_or_obsolete()


def request_that_closes(wrapper: BaseDatabaseWrapper) -> None:
    select(wrapper)
    wrapper.close()


def request_with_a_cursor_left_open(wrapper: BaseDatabaseWrapper) -> None:
    cursor = wrapper.cursor()
    cursor.execute("SELECT n FROM numbers")
    wrapper.close()
    with suppress(Error):
        cursor.execute("SELECT 1")


def request_with_an_error(wrapper: BaseDatabaseWrapper) -> None:
    with suppress(Error), wrapper.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")
    wrapper.close()


def transaction_that_commits(wrapper: BaseDatabaseWrapper) -> None:
    with transaction.atomic(using=ALIAS):
        insert(wrapper)
        with transaction.atomic(using=ALIAS):
            insert(wrapper)
    wrapper.close()


def transaction_that_rolls_back(wrapper: BaseDatabaseWrapper) -> None:
    with suppress(KeyError), transaction.atomic(using=ALIAS):
        insert(wrapper)
        raise KeyError
    wrapper.close()


def transaction_that_closes(wrapper: BaseDatabaseWrapper) -> None:
    with suppress(Error), transaction.atomic(using=ALIAS):
        insert(wrapper)
        wrapper.close()
    wrapper.close()


def transaction_without_atomic(wrapper: BaseDatabaseWrapper) -> None:
    wrapper.set_autocommit(False)
    insert(wrapper)
    wrapper.close()


MAIN = [request, transaction_that_commits]
"""At every bytecode; the others at every line."""
OTHERS = [
    request_that_closes,
    request_with_a_cursor_left_open,
    request_with_an_error,
    transaction_that_rolls_back,
    transaction_that_closes,
    transaction_without_atomic,
]

SWALLOWERS = ("ChangeAuthorizer", "_rollback", "TransactionScope")
"""Where an interrupt may not be what is raised: SQLite swallows it in the authorizer, Python in
the callback for a dropped cursor, and after one in a commit or a rollback Django goes on with
`set_autocommit(True)`, which psycopg refuses."""
OUTCOMES = {
    transaction_that_commits: {0, 2},
    # An interrupt in Django's rollback is followed by its `set_autocommit(True)`, which commits
    # what is open on SQLite, without a pool as well.
    transaction_that_rolls_back: {0, 1},
    transaction_that_closes: {0, 1},
}
"""How many rows a story may leave, if it is not none."""


@pytest.fixture
def numbers(database: Database) -> Iterator[Database]:
    """A database with an empty table."""
    database.execute("CREATE TABLE numbers (n integer)")
    yield database
    database.execute("DROP TABLE numbers")


@pytest.mark.slow
@pytest.mark.parametrize("story", MAIN, ids=lambda story: story.__name__)
@pytest.mark.parametrize("scope", SCOPES)
def test_an_interrupt_at_any_bytecode_of_the_backends_loses_nothing(
    numbers: Database, story: Callable[[BaseDatabaseWrapper], None], scope: str
) -> None:
    interrupt_everywhere(numbers, story, "opcode", scope=scope)


@MARIADB_SLOW
@pytest.mark.parametrize("story", [*MAIN, *OTHERS], ids=lambda story: story.__name__)
@pytest.mark.parametrize(
    "options", [{"reset": "rollback"}, {"reset": "session"}, {"scope": "transaction"}], ids=str
)
def test_an_interrupt_at_any_line_of_the_backends_loses_nothing(
    numbers: Database,
    story: Callable[[BaseDatabaseWrapper], None],
    options: dict[str, str],
) -> None:
    interrupt_everywhere(numbers, story, "line", **options)


def interrupt_everywhere(
    database: Database,
    story: Callable[[BaseDatabaseWrapper], None],
    event: str,
    **options: Any,
) -> None:
    """Interrupt a story at one place after the other; afterwards the pool and the wrapper work."""
    options = {"max_size": 1, "timeout": 5.0, **options}

    def once(interrupter: Interrupter) -> None:
        with database.alias(ALIAS, pool=options) as wrapper:
            wrapper.resolve_pool()  # has a test of its own, and thousands of bytecodes
            interrupted = False
            with interrupter:
                try:
                    story(wrapper)
                except KeyboardInterrupt:
                    interrupted = True
                except Error:
                    if not any(name in (interrupter.where or "") for name in SWALLOWERS):
                        raise
            try:
                check(wrapper, OUTCOMES.get(story, {0}))
            except BaseException:
                wrapper.resolve_pool().close()  # the next one begins with a pool that is whole
                database.execute("DELETE FROM numbers")
                raise
        where = interrupter.where or ""
        swallowed = interrupted != bool(where)
        in_callback = options.get("scope") == "transaction"  # for a dropped cursor, which releases
        assert not swallowed or in_callback or any(name in where for name in SWALLOWERS), (
            "it was swallowed"
        )

    everywhere(once, event=event, folders=(BACKENDS,), at_least=20)


def check(wrapper: BaseDatabaseWrapper, outcomes: set[int]) -> None:
    """Who survives an interrupt goes on with the same wrapper, after the end of the request."""
    pool: Any = wrapper.resolve_pool()
    gc.collect()
    assert not wrapper.in_atomic_block
    if wrapper.connection is not None:
        pool._tasks.maintain()
        assert pool.stats().leased == 1, "it goes on with a connection that is not its own"
    wrapper.close()
    pool._tasks.maintain()
    eventually(lambda: not pool.stats().connecting)
    assert pool.stats().leased == 0, "a lease is left after close()"
    count = select(wrapper)
    assert count in outcomes, "half a transaction was committed"
    assert wrapper.get_autocommit()
    if count:
        with wrapper.cursor() as cursor:
            cursor.execute("DELETE FROM numbers")
    wrapper.close()
    assert pool.stats().leased == 0


def test_an_interrupt_while_the_pool_is_looked_for_is_forgotten(numbers: Database) -> None:
    """At any line of what makes a key of the settings, and registers the pool."""

    def once(interrupter: Interrupter) -> None:
        with numbers.alias(ALIAS, pool={"max_size": 1, "timeout": 5.0}) as wrapper:
            with interrupter, suppress(KeyboardInterrupt):
                wrapper.resolve_pool()
            assert wrapper.resolve_pool() is wrapper.copy().resolve_pool()

    folders = (BACKENDS, BACKENDS.parent / "registry.py", BACKENDS.parent / "conf.py")
    everywhere(once, event="line", folders=folders, at_least=50)


@pytest.mark.slow
@pytest.mark.parametrize("reset", ["rollback", "session"])
def test_a_worker_that_ends_at_any_bytecode_of_a_connect_leaves_no_session(
    database: Database, reset: str
) -> None:
    """Scenario 15: what was opened when the interrupt struck is closed."""
    wrapper = database.wrapper(pool={"reset": reset})
    driver: Any = wrapper.resolve_pool()._driver

    def once(interrupter: Interrupter) -> None:
        with interrupter:
            try:
                connection = driver.connect()
            except SystemExit:
                connection = None
        if connection is not None:
            driver.close(connection)
            del connection
        gc.collect()
        eventually(lambda: not database.sessions())

    # Every bytecode is for SQLite, where a connection costs next to nothing.
    event = "opcode" if database.vendor == "sqlite" else "line"
    everywhere(
        once, error=SystemExit, event=event, folders=(BACKENDS,), at_least=60, most_failures=1
    )


@MARIADB_SLOW
def test_an_interrupted_wrapper_has_no_connection_that_was_not_announced(
    numbers: Database,
) -> None:
    """What receivers set up, a role or a search path, is there or there is no connection."""
    announced: list[Any] = []

    def hear(connection: BaseDatabaseWrapper, **_: Any) -> None:
        announced.append(connection.connection)

    def once(interrupter: Interrupter) -> None:
        announced.clear()
        with numbers.alias(ALIAS, pool={"max_size": 1, "timeout": 5.0}) as wrapper:
            wrapper.resolve_pool()
            with interrupter, suppress(KeyboardInterrupt):
                wrapper.ensure_connection()
            alone = wrapper.connection is not None and wrapper.connection not in announced
            wrapper.close()
            wrapper.resolve_pool().close()
            announced.clear()
            assert not alone

    connection_created.connect(hear)
    try:
        everywhere(once, folders=(BACKENDS,), at_least=60)
    finally:
        connection_created.disconnect(hear)


@MARIADB_SLOW
def test_an_interrupted_wrapper_that_is_dropped_gives_its_connection_back(
    numbers: Database,
) -> None:
    options = {"max_size": 1, "timeout": 5.0}

    def once(interrupter: Interrupter) -> None:
        wrapper = numbers.wrapper(pool=options)
        pool: Any = wrapper.resolve_pool()
        with interrupter, suppress(KeyboardInterrupt, Error):
            request(wrapper)
        del wrapper
        gc.collect()
        pool._tasks.maintain()
        eventually(lambda: not pool.stats().connecting)
        if leased := pool.stats().leased:
            pool.close()  # the next one begins with a pool that is whole
        assert not leased
        pool.acquire(timeout=5.0).release()

    everywhere(once, folders=(BACKENDS,), at_least=60)
