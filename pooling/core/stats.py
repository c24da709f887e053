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

    from pooling.core.driver import C
    from pooling.core.state import PoolState


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
        suspended: whether callers wait until `resume`.
        closed: whether the pool was closed for good.
        acquired: leases that reached their caller, in total; totals never go down.
        waited: acquires that had to queue, however they ended; one that is handed a connection
            that has died queues again and is counted again.
        waits: how long finished waits in the queue lasted.
        holds: how long finished leases lasted.
        timeouts: acquires that ended with `PoolTimeout`.
        rejected: acquires that ended with `TooManyWaiters` or `ServerDown`.
        connects: connections opened.
        connect_errors: attempts to open one that failed.
        recovered: connections taken back from lost leases.
        last_error: why connecting failed last, in the server's words; None if it never did.
        discards: connections thrown away, by reason.
        pins: leases with `scope="transaction"` that were kept until the end of the request, by
            reason.
    """

    name: str
    min_size: int
    max_size: int
    size: int
    idle: int
    leased: int
    connecting: int
    waiting: int
    suspended: bool
    closed: bool
    acquired: int
    waited: int
    waits: HistogramSnapshot
    holds: HistogramSnapshot
    timeouts: int
    rejected: int
    connects: int
    connect_errors: int
    recovered: int
    last_error: str | None
    discards: Mapping[DiscardReason, int]
    pins: Mapping[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """A caller that holds a connection.

    Attributes:
        thread: the name of the thread that acquired it.
        seconds: for how long.
        note: what it was acquired for, if the caller said so, such as the path of a request.
        frames: where it was acquired; only known with `leak_after`.
        pinned: why it is kept until the end of the request, with `scope="transaction"`.
    """

    thread: str
    seconds: float
    note: str | None = None
    frames: StackSummary | None = None
    pinned: str | None = None

    @property
    def stack(self) -> str | None:
        """Where it was acquired, as text; reads source files. None without `leak_after`."""
        return None if self.frames is None else "".join(self.frames.format())


class Counters:
    """The counters behind `PoolStats`. Changed only under the pool's lock."""

    __slots__ = (
        "connect_errors",
        "connects",
        "discards",
        "holds",
        "last_error",
        "pins",
        "recovered",
        "rejected",
        "retired_uses",
        "timeouts",
        "waited",
        "waits",
    )

    def __init__(self, retired_uses: int = 0) -> None:
        self.waited = 0
        self.waits = Histogram()
        self.holds = Histogram()
        self.timeouts = 0
        self.rejected = 0
        self.connects = 0
        self.connect_errors = 0
        self.recovered = 0
        self.last_error: str | None = None
        self.discards = dict.fromkeys(DiscardReason, 0)
        self.pins: dict[str, int] = {}
        self.retired_uses = retired_uses
        """Uses of closed connections; with those of the present ones, the number of all leases."""


def snapshot(state: PoolState[C]) -> PoolStats:
    """Return the numbers of this instant."""
    counters = state.counters
    return PoolStats(
        name=state.config.name,
        min_size=state.config.min_size,
        max_size=state.max_size,
        size=len(state.records),
        idle=len(state.idle),
        leased=state.leased,
        connecting=state.connecting,
        waiting=len(state.waiters),
        suspended=state.suspended,
        closed=state.closed,
        acquired=counters.retired_uses + sum(record.uses for record in state.records),
        waited=counters.waited,
        waits=counters.waits.snapshot(),
        holds=counters.holds.snapshot(),
        timeouts=counters.timeouts,
        rejected=counters.rejected,
        connects=counters.connects,
        connect_errors=counters.connect_errors,
        recovered=counters.recovered,
        last_error=counters.last_error,
        discards=MappingProxyType(dict(counters.discards)),
        pins=MappingProxyType(dict(counters.pins)),
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
    )


def held_by(state: PoolState[C], thread: threading.Thread) -> int:
    """Return how many connections `thread` holds."""
    return sum(record.thread is thread and record.state is LEASED for record in state.records)
