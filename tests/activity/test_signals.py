"""Django's signals for what happens in a pool, and the lines of the log."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from pooling import DiscardReason, Holder, Pool, PoolTimeout, signals
from tests.support.databases import Database, PostgresDatabase, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.dispatch import Signal


@pytest.fixture
def heard() -> Iterator[Callable[[Signal], list[dict[str, Any]]]]:
    """A function that listens to a signal and returns the list of what is heard."""
    receivers: list[tuple[Signal, Callable[..., None]]] = []

    def listen(signal: Signal) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []

        def receive(sender: Any, **event: Any) -> None:
            assert sender is Pool
            assert event.pop("signal") is signal
            events.append({**event, "thread": threading.current_thread()})

        signal.connect(receive)
        receivers.append((signal, receive))
        return events

    yield listen
    for signal, receive in receivers:
        signal.disconnect(receive)


def pool_of(wrapper: Any) -> Pool[Any]:
    pool: Pool[Any] = wrapper.resolve_pool()
    return pool


def test_opened_and_closed_are_sent_once_for_each_physical_connection(
    database: Database, heard: Any
) -> None:
    opened, closed = heard(signals.connection_opened), heard(signals.connection_closed)
    wrapper = database.wrapper()
    for _ in range(3):
        wrapper.ensure_connection()
        wrapper.close()
    pool = pool_of(wrapper)
    eventually(lambda: opened)

    assert [event["pool"] for event in opened] == [pool]
    assert closed == []
    pool.drain()
    eventually(lambda: closed)

    assert [(event["pool"], event["reason"]) for event in closed] == [(pool, DiscardReason.DRAINED)]
    assert len(opened) == 1


def test_a_broken_connection_is_closed_with_its_reason(
    postgresql: PostgresDatabase, heard: Any
) -> None:
    closed = heard(signals.connection_closed)
    wrapper = postgresql.wrapper()
    wrapper.ensure_connection()
    postgresql.break_connection(wrapper)
    wrapper.close()
    wrapper.ensure_connection()  # which is where the pool looks
    eventually(lambda: closed)

    assert [event["reason"] for event in closed] == [DiscardReason.BROKEN]


def test_a_caller_that_waited_in_vain_is_told_of_before_it_gets_its_error(
    database: Database, heard: Any
) -> None:
    timed_out = heard(signals.acquire_timed_out)
    holder = database.wrapper(pool={"max_size": 1})
    holder.ensure_connection()
    with pytest.raises(PoolTimeout) as raised:
        pool_of(holder).acquire(timeout=0)

    (event,) = timed_out
    assert event == {
        "pool": pool_of(holder),
        "error": raised.value,
        "thread": threading.current_thread(),
    }


def test_a_leak_is_told_of_once_with_its_stack(database: Database, heard: Any) -> None:
    leaked = heard(signals.lease_leaked)
    wrapper = database.wrapper(pool={"leak_after": 0.01})
    wrapper.ensure_connection()
    eventually(lambda: leaked)
    pool_of(wrapper)._tasks.maintain()

    (event,) = leaked
    assert isinstance(event["holder"], Holder)
    assert event["holder"].thread == threading.current_thread().name
    assert "test_a_leak_is_told_of_once_with_its_stack" in event["holder"].stack


def test_a_receiver_that_fails_is_logged_and_harms_nobody(
    database: Database, heard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("a bug of the user's")

    signals.connection_opened.connect(fail)
    opened = heard(signals.connection_opened)
    try:
        database.wrapper().ensure_connection()
        eventually(lambda: opened)
    finally:
        signals.connection_opened.disconnect(fail)

    assert "a bug of the user's" in caplog.text
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == [
        "django.dispatch"
    ]


def test_signals_keep_no_pool_alive(database: Database, heard: Any) -> None:
    opened = heard(signals.connection_opened)
    wrapper = database.wrapper()
    wrapper.ensure_connection()
    eventually(lambda: opened)
    pool = weakref.ref(pool_of(wrapper))
    wrapper.close()
    database.close()
    del wrapper
    opened.clear()

    eventually(lambda: gc.collect() is not None and pool() is None)


def test_importing_the_signals_brings_no_driver_and_no_models() -> None:
    script = (
        "import sys, pooling.signals, pooling.activity\n"
        "heavy = {'psycopg', 'psycopg2', 'sqlite3', 'celery', 'django.db', 'django.http'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert (answer.stdout, answer.stderr) == ("[]\n", "")


def test_the_log_tells_of_the_life_cycle_at_info_and_of_no_acquire_above_debug(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pooling")
    wrapper = database.wrapper()
    for _ in range(20):
        wrapper.ensure_connection()
        wrapper.close()
    pool = pool_of(wrapper)
    pool.drain()
    eventually(lambda: pool.stats().size == 0)

    lines = [
        (record.levelname, record.getMessage().rpartition(">: ")[2])
        for record in caplog.records
        if record.name == "pooling" and record.levelno > logging.DEBUG
    ]
    assert lines == [("INFO", "opened a connection"), ("INFO", "closing a connection (drained)")]
