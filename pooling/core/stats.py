"""Statistics of a pool: the public snapshots, the counters behind them, and how they are taken.

The functions are called with the pool's lock held and change nothing.
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING

from pooling.core.connection import LEASED, DiscardReason, PooledConnection
from pooling.core.histogram import Histogram, HistogramSnapshot

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from traceback import StackSummary

    from pooling.core.budget import BudgetUse
    from pooling.core.driver import C
    from pooling.core.state import PoolState


@dataclasses.dataclass(frozen=True, slots=True)
class Outage:
    """A time in which every attempt to connect has failed.

    Attributes:
        seconds: since its first failed attempt.
        refused: callers that failed since then: timeouts and rejections.
        next_attempt: seconds until the next attempt; None if it comes with the next caller.
        answered: whether the server answers, but refuses the connection for good.
    """

    seconds: float
    refused: int
    next_attempt: float | None
    answered: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """A pool at one instant. Taken under the pool's lock, so the numbers agree with each other.

    Attributes:
        name: the pool's name.
        min_size: see `PoolConfig`.
        max_size: see `PoolConfig`.
        size: connections in the pool: `connecting + idle + leased`.
        idle: open and free.
        leased: held by callers.
        connecting: being opened, tested or cleaned.
        waiting: callers in the queue.
        max_wait: seconds for which the first of them has waited; 0 if there is none.
        suspended: whether callers wait until `resume`.
        closed: whether the pool was closed for good.
        acquired: leases that reached their caller, in total; totals never go down.
        waited: acquires that had to queue, however they ended; one that is handed a connection
            that has died queues again and is counted again.
        waits: how long finished waits in the queue lasted.
        holds: how long finished leases lasted.
        opens: how long it took to open connections, with what sets up their sessions.
        timeouts: acquires that ended with `PoolTimeout`.
        rejected: acquires that ended with `TooManyWaiters` or `ServerDown`.
        connects: connections opened.
        connect_errors: attempts to open one that failed.
        recovered: connections taken back from lost leases.
        replayed: reads that were run again since their session had ended, with `replay_reads`.
        outage: set while every attempt to connect fails; None after one that succeeded.
        last_error: why connecting failed last, in the server's words; None if it never did.
        last_error_age: how many seconds ago that was.
        discards: connections thrown away, by reason.
        pins: leases with `scope="transaction"` that were kept until the end of the request, by
            reason.
        budget: how the budget of all processes was used some seconds ago; None without the option
            `budget`, and before the first look.
    """

    name: str
    min_size: int
    max_size: int
    size: int
    idle: int
    leased: int
    connecting: int
    waiting: int
    max_wait: float
    suspended: bool
    closed: bool
    acquired: int
    waited: int
    waits: HistogramSnapshot
    holds: HistogramSnapshot
    opens: HistogramSnapshot
    timeouts: int
    rejected: int
    connects: int
    connect_errors: int
    recovered: int
    replayed: int
    outage: Outage | None
    last_error: str | None
    last_error_age: float | None
    discards: Mapping[DiscardReason, int]
    pins: Mapping[str, int]
    budget: BudgetUse | None


HISTOGRAMS = ("waits", "holds", "opens")
"""The attributes of `PoolStats` that are durations."""


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """A caller that holds a connection.

    Attributes:
        thread: the name of the thread that acquired it.
        seconds: for how long.
        note: what it was acquired for, if the caller said so, such as the path of a request.
        frames: where it was acquired; only known with `leak_after`.
        pinned: why it is kept until the end of the request, with `scope="transaction"`.
        id: identifies the lease within its process.
    """

    thread: str
    seconds: float
    note: str | None = None
    frames: StackSummary | None = None
    pinned: str | None = None
    id: str = ""

    @property
    def stack(self) -> str | None:
        """Where it was acquired, as text; reads source files. None without `leak_after`."""
        return None if self.frames is None else "".join(self.frames.format())


@dataclasses.dataclass(frozen=True, slots=True)
class QueuedCaller:
    """A caller in the queue.

    Attributes:
        thread: the name of its thread.
        seconds: for how long it has waited.
        note: what it wants the connection for, if it said so.
    """

    thread: str
    seconds: float
    note: str | None = None


class Counters:
    """The counters behind `PoolStats`. Changed only under the pool's lock."""

    __slots__ = (
        "connect_errors",
        "connects",
        "discards",
        "down_since",
        "failed_at",
        "failed_callers",
        "holds",
        "last_error",
        "opens",
        "peak_waiting",
        "pins",
        "recovered",
        "rejected",
        "replayed",
        "retired_uses",
        "timeouts",
        "waited",
        "waits",
    )

    def __init__(self, retired_uses: int = 0) -> None:
        self.waited = 0
        self.waits = Histogram()
        self.holds = Histogram()
        self.opens = Histogram()
        self.timeouts = 0
        self.rejected = 0
        self.connects = 0
        self.connect_errors = 0
        self.recovered = 0
        self.replayed = 0
        self.last_error: str | None = None
        self.failed_at = 0.0
        """When connecting failed last (the pool's clock)."""
        self.down_since: float | None = None
        """Since when every attempt to connect has failed."""
        self.failed_callers = 0
        """The callers that had failed when that began."""
        self.peak_waiting = 0
        """The longest queue since `peaks` was last called."""
        self.discards = dict.fromkeys(DiscardReason, 0)
        self.pins: dict[str, int] = {}
        self.retired_uses = retired_uses
        """Uses of closed connections; with those of the present ones, the number of all leases."""

    def connected(self, seconds: float) -> None:
        """Count a connection that was opened within so many seconds."""
        self.connects += 1
        self.opens.add(seconds)
        self.down_since = None

    def not_connected(self, error_text: str, now: float) -> None:
        """Count a failed attempt to open one."""
        self.connect_errors += 1
        self.last_error, self.failed_at = error_text, now
        if self.down_since is None:
            self.down_since, self.failed_callers = now, self.timeouts + self.rejected

    def cleared(self, retired_uses: int) -> Counters:
        """Return counters that begin at zero, in the middle of an outage if there is one."""
        new = Counters(retired_uses)
        if self.down_since is not None:
            new.down_since, new.failed_at = self.down_since, self.failed_at
            new.last_error = self.last_error
        return new


def snapshot(state: PoolState[C]) -> PoolStats:
    """Return the numbers of this instant."""
    counters = state.counters
    now = state.now()
    return PoolStats(
        name=state.config.name,
        min_size=state.config.min_size,
        max_size=state.config.max_size,
        size=len(state.records),
        idle=len(state.idle),
        leased=state.leased,
        connecting=state.connecting,
        waiting=len(state.waiters),
        max_wait=max(now - state.waiters.head().since, 0.0) if state.waiters else 0.0,
        suspended=state.suspended,
        closed=state.closed,
        acquired=counters.retired_uses + sum(record.uses for record in state.records),
        waited=counters.waited,
        waits=counters.waits.snapshot(),
        holds=counters.holds.snapshot(),
        opens=counters.opens.snapshot(),
        timeouts=counters.timeouts,
        rejected=counters.rejected,
        connects=counters.connects,
        connect_errors=counters.connect_errors,
        recovered=counters.recovered,
        replayed=counters.replayed,
        outage=_outage(state, now),
        last_error=counters.last_error,
        last_error_age=None if counters.last_error is None else max(now - counters.failed_at, 0.0),
        discards=MappingProxyType(dict(counters.discards)),
        pins=MappingProxyType(dict(counters.pins)),
        budget=state.budget_use,
    )


def _outage(state: PoolState[C], now: float) -> Outage | None:
    counters, backoff = state.counters, state.backoff
    if counters.down_since is None:
        return None
    due: float | None = None
    if state.waiters or state.opening:
        due = backoff.next_attempt
    elif state.used and len(state.records) < state.config.min_size:
        due = max(backoff.next_refill, backoff.next_attempt)
    return Outage(
        seconds=max(now - counters.down_since, 0.0),
        refused=counters.timeouts + counters.rejected - counters.failed_callers,
        next_attempt=None if due is None else max(due - now, 0.0),
        answered=backoff.error is None,
    )


def peaks(state: PoolState[C], seconds: float) -> tuple[int, int]:
    """Return how many connections were in use, and how many callers waited, at most.

    In use: the connection that came back last is used first, so those that were used within a time
    are as many as were in use at once. Ones that were closed meanwhile are not counted.

    Args:
        seconds: the time, for leases. For the queue it is the time since the last call.
    """
    begin = state.now() - seconds
    used = sum(record.uses > 0 and record.since >= begin for record in state.idle)
    longest = max(state.counters.peak_waiting, len(state.waiters))
    state.counters.peak_waiting = len(state.waiters)
    return state.leased + used, longest


def queue(state: PoolState[C]) -> tuple[QueuedCaller, ...]:
    """Return the callers that wait, in the order in which they are served."""
    now = state.now()
    return tuple(
        QueuedCaller(waiter.lease._thread.name, max(now - waiter.since, 0.0), waiter.lease._note)
        for waiter in state.waiters
    )


def holders(state: PoolState[C]) -> tuple[Holder, ...]:
    """Return the holders of connections, longest first."""
    now = state.now()
    leased = [record for record in state.records if record.state is LEASED]
    leased.sort(key=lambda record: record.since)
    return tuple(holder(record, now) for record in leased)


def holder(record: PooledConnection[C], now: float) -> Holder:
    """Return the holder of a leased connection."""
    return Holder(
        thread=record.thread.name if record.thread else "(unknown)",
        seconds=now - record.since,
        note=record.note,
        frames=record.stack,
        pinned=record.pin[1] if record.pin is not None and record.pin[0] is record.owner else None,
        id=lease_id(record),
    )


def lease_id(record: PooledConnection[C]) -> str:
    """Return what identifies the present lease of a connection within the process."""
    return f"{id(record.owner):x}-{round(record.since * 1e6):x}"


def held_by(state: PoolState[C], thread: threading.Thread) -> int:
    """Return how many connections `thread` holds."""
    return sum(record.thread is thread and record.state is LEASED for record in state.records)
