"""Statistics of a pool: the snapshot types, the counters, and how a snapshot is taken."""

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
        leased: in somebody's claimed.
        connecting: being opened, or tested after a long rest.
        waiting: callers in the queue.
        suspended: whether callers are made to wait until `resume`.
        closed: whether the pool was closed for good.
        acquired: leases that reached their caller, in total; like all totals it never goes down.
        waited: acquires that had to queue, whatever became of them; who is handed a connection that
            has died queues once more, and is counted once more.
        waits: how long those that had to queue did so, if that is over.
        holds: how long leases lasted, those that are over.
        timeouts: acquires that ended with `PoolTimeout`.
        rejected: acquires that were turned away, with `TooManyWaiters` or `ServerDown`.
        connects: connections opened.
        connect_errors: attempts to open one that failed.
        recovered: connections taken back from a holder that was gone.
        last_error: why connecting failed the last time it did, in the server's words.
        discards: connections thrown away, by reason.
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


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a connection.

    Attributes:
        thread: the name of the thread that acquired it.
        seconds: for how long.
        note: what it was acquired for, if the caller said so: a request's path for instance.
        frames: where it was acquired; only known with `leak_after`.
    """

    thread: str
    seconds: float
    note: str | None = None
    frames: StackSummary | None = None

    @property
    def stack(self) -> str | None:
        """Where it was acquired, as text. This reads source files: not for the pool's lock."""
        return None if self.frames is None else "".join(self.frames.format())


class Totals:
    """The counters behind `PoolStats`, changed only under the pool's lock."""

    __slots__ = (
        "connect_errors",
        "connects",
        "discards",
        "holds",
        "last_error",
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
        self.retired_uses = retired_uses
        """Uses of the connections that are gone: with those of the present ones, all leases."""

    def discards_now(self) -> Mapping[DiscardReason, int]:
        """Return a copy that nobody can change."""
        return MappingProxyType(dict(self.discards))


def snapshot(state: PoolState[C]) -> PoolStats:
    """Return the numbers of this instant."""
    totals = state.totals
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
        acquired=totals.retired_uses + sum(record.uses for record in state.records),
        waited=totals.waited,
        waits=totals.waits.read(),
        holds=totals.holds.read(),
        timeouts=totals.timeouts,
        rejected=totals.rejected,
        connects=totals.connects,
        connect_errors=totals.connect_errors,
        recovered=totals.recovered,
        last_error=totals.last_error,
        discards=totals.discards_now(),
    )


def obstacle(state: PoolState[C]) -> BaseException | None:
    """Return why the pool cannot grow, if it should and the server does not let it."""
    return state.backoff.error if len(state.records) < state.max_size else None


def holders(state: PoolState[C]) -> tuple[Holder, ...]:
    """Return who holds connections, longest first."""
    now = state.now()
    leased = [record for record in state.records if record.state is LEASED]
    leased.sort(key=lambda record: record.since)
    return tuple(holder(record, now) for record in leased)


def holder(record: PooledConnection[C], now: float) -> Holder:
    """Return who holds a leased connection."""
    return Holder(
        thread=record.thread.name if record.thread else "(unknown)",
        seconds=now - record.since,
        note=record.note,
        frames=record.stack,
    )


def held_by(state: PoolState[C], thread: threading.Thread) -> int:
    """Return how many connections `thread` holds."""
    return sum(record.thread is thread and record.state is LEASED for record in state.records)
