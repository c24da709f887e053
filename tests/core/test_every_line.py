"""An interrupt at any line of the core loses nothing.

Ctrl-C raises `KeyboardInterrupt` in the main thread between two bytecodes, wherever it is. Here it
strikes at each line of `pooling.core` in turn that a story runs through, with one exception:
`with self._lock:` is traced a second time when the block is left, and there a trace function could
do what a signal cannot, namely come between the block and the release of its lock. Workers are
other threads, which Ctrl-C does not reach, so nothing strikes while a job is done.
"""

from __future__ import annotations

import gc
import linecache
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

import pooling.core
from pooling.core.errors import PoolTimeout
from tests.core.fakes import FakeConnection, InlineWorkers, Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from pooling.core.pool import Pool

CORE = str(Path(pooling.core.__file__).parent)


class Interrupter:
    """Raises `KeyboardInterrupt` at the nth line of the core that is run while it is active."""

    def __init__(self, strike_at: int) -> None:
        self.left = strike_at
        self.where: str | None = None
        self._outside = sys.gettrace()

    def __enter__(self) -> Self:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._outside)

    def _enter(self, frame: FrameType, event: str, arg: object) -> Any:
        return self._line if frame.f_code.co_filename.startswith(CORE) else None

    def _line(self, frame: FrameType, event: str, arg: object) -> Any:
        # A finaliser cannot be interrupted in a way that anybody notices: Python swallows it.
        code, line = frame.f_code, frame.f_lineno
        strikes = event == "line" and code.co_name != "__del__"
        text = linecache.getline(code.co_filename, line).strip()
        if strikes and text not in ("with self._lock:", "try:"):
            self.left -= 1
            if self.left == 0:
                self.where = f"{Path(code.co_filename).name}:{line} ({code.co_name})"
                sys.settrace(self._outside)
                raise KeyboardInterrupt
        return self._line


class UntracedWorkers(InlineWorkers):
    """Workers whose jobs, like those of other threads, no interrupt reaches."""

    def run(self, job: Callable[[], None]) -> None:
        trace = sys.gettrace()
        sys.settrace(None)
        try:
            job()
        finally:
            sys.settrace(trace)


def warm(lab: Lab, pool: Pool[FakeConnection]) -> None:
    """Leave one idle connection."""
    pool.acquire().release()


def rested(lab: Lab, pool: Pool[FakeConnection]) -> None:
    """Leave one idle connection that has to be pinged."""
    warm(lab, pool)
    lab.clock.advance(31.0)


def outdated(lab: Lab, pool: Pool[FakeConnection]) -> None:
    """Leave one idle connection that is too old."""
    warm(lab, pool)
    lab.clock.advance(3601.0)


def cold(lab: Lab, pool: Pool[FakeConnection]) -> None:
    """Leave nothing."""


def exhausted(lab: Lab, pool: Pool[FakeConnection]) -> None:
    """Have everything leased, and come back when somebody waits."""
    leases = [pool.acquire() for _ in range(2)]
    lab.clock.meanwhile(lambda: _untraced(leases.pop().release))
    lab.clock.meanwhile(lambda: _untraced(leases.pop().release))


def forgotten(lab: Lab, pool: Pool[FakeConnection]) -> None:
    """Have one lease that somebody forgot, and one that is somebody's."""
    lease = pool.acquire()
    pool.acquire()
    lab.clock.meanwhile(lambda: _untraced(lease.release))


def use(pool: Pool[FakeConnection]) -> None:
    with pool.acquire():
        pass


def use_and_discard(pool: Pool[FakeConnection]) -> None:
    pool.acquire().discard()


def use_two(pool: Pool[FakeConnection]) -> None:
    with pool.acquire(), pool.acquire():
        pass


def drain(pool: Pool[FakeConnection]) -> None:
    use(pool)
    pool.drain()


def resize(pool: Pool[FakeConnection]) -> None:
    use(pool)
    pool.resize(max_size=1)
    pool.resize(max_size=2)


def time_out(pool: Pool[FakeConnection]) -> None:
    with pool.acquire(), pool.acquire():
        try:
            pool.acquire(timeout=1.0)
        except PoolTimeout:
            return


STORIES: list[Any] = [
    (warm, use),
    (rested, use),
    (outdated, use),
    (cold, use),
    (exhausted, use),
    (forgotten, use),
    (warm, use_and_discard),
    (warm, use_two),
    (exhausted, use_two),
    (warm, drain),
    (warm, resize),
    (warm, time_out),
]


def _untraced(act: Callable[[], object]) -> None:
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        act()
    finally:
        sys.settrace(trace)


def _losses(lab: Lab, pool: Pool[FakeConnection]) -> list[str]:
    """Say what is wrong with a pool that nobody uses at the moment."""
    lab.clock._meanwhile.clear()
    gc.collect()
    lab.clock.advance(1.0)
    pool.maintain()
    pool.maintain()
    losses = _disorder(lab, pool)
    for _ in range(2):
        leases = []
        for _ in range(pool.config.max_size):
            try:
                leases.append(pool.acquire(timeout=0))
            except Exception as error:
                losses.append(f"a following acquire failed: {error}")
        if len({id(lease.connection) for lease in leases}) != len(leases):
            losses.append("two leases have the same connection")
        for lease in leases:
            if lease.current:
                lease.release()
    losses += _disorder(lab, pool)
    pool.close()
    gc.collect()
    pool.maintain()
    if lab.driver.open:
        losses.append(f"{lab.driver.open} left open after close: {pool!r}")
    return losses + lab.driver.faults


def _disorder(lab: Lab, pool: Pool[FakeConnection]) -> list[str]:
    stats, books = pool.stats(), pool.books
    disorder = []
    if (stats.leased, stats.connecting, stats.waiting) != (0, 0, 0):
        disorder.append(f"not at rest: {pool!r}")
    if stats.size != stats.idle or stats.size > 2 or books.opening:
        disorder.append(f"miscounted: {pool!r}, opening={books.opening}")
    if set(books.idle) != books.records or len(set(books.idle)) != len(books.idle):
        disorder.append(f"idle={list(books.idle)} records={books.records}")
    if len(lab.driver.open) != stats.size:
        disorder.append(f"open={lab.driver.open}, but {pool!r}")
    return disorder


@pytest.fixture
def _little_to_collect() -> Iterator[None]:
    """Spare the garbage collector the thousands of rounds over what other tests left."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_little_to_collect")
@pytest.mark.parametrize(
    ("before", "act"), STORIES, ids=lambda part: part.__name__ if callable(part) else None
)
def test_an_interrupt_at_any_line_loses_nothing(before: Any, act: Any) -> None:
    report = []
    for strike_at in range(1, 10_000):
        lab = Lab(UntracedWorkers())
        pool = lab.pool(max_size=2)
        before(lab, pool)
        losses = []
        with Interrupter(strike_at) as interrupter:
            try:
                act(pool)
            except KeyboardInterrupt:
                pass
            except Exception as error:
                losses.append(f"the interrupt turned into {error!r}")
        if interrupter.where is None:
            break
        losses += _losses(lab, pool)
        if losses:
            report.append(f"{interrupter.where}: {'; '.join(losses)}")
    assert strike_at > 40, "the story has no lines"
    assert not report, "\n".join(report)
