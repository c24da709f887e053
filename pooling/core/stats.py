"""What a pool can say of itself."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING

from pooling.core.connection import DiscardReason

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """A pool at one instant. Taken under the pool's lock, so the numbers agree with each other.

    Attributes:
        name: the pool's name.
        min_size: see `PoolConfig`.
        max_size: see `PoolConfig`.
        size: connections in the pool: `connecting + idle + leased`.
        idle: open and free.
        leased: in somebody's hands.
        connecting: being opened, or tested after a long rest.
        waiting: callers in the queue.
        closed: whether the pool was closed for good.
        acquired: leases that reached their caller, in total; like all totals it never goes down.
        waited: acquires that had to queue, whatever became of them.
        wait_seconds: how long the settled ones of those queued, taken together.
        timeouts: acquires that ended with `PoolTimeout`.
        rejected: acquires that ended with `TooManyWaiters`.
        connects: connections opened.
        connect_errors: attempts to open one that failed.
        recovered: connections taken back from a holder that was gone.
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
    closed: bool
    acquired: int
    waited: int
    wait_seconds: float
    timeouts: int
    rejected: int
    connects: int
    connect_errors: int
    recovered: int
    discards: Mapping[DiscardReason, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a connection.

    Attributes:
        thread: the name of the thread that acquired it.
        seconds: for how long.
        stack: where it was acquired, formatted; only known with `leak_after`.
    """

    thread: str
    seconds: float
    stack: str | None = None


class Totals:
    """The counters behind `PoolStats`, changed only under the pool's lock."""

    __slots__ = (
        "connect_errors",
        "connects",
        "discards",
        "recovered",
        "rejected",
        "retired_uses",
        "timeouts",
        "wait_seconds",
        "waited",
    )

    def __init__(self) -> None:
        self.waited = 0
        self.wait_seconds = 0.0
        self.timeouts = 0
        self.rejected = 0
        self.connects = 0
        self.connect_errors = 0
        self.recovered = 0
        self.discards = dict.fromkeys(DiscardReason, 0)
        self.retired_uses = 0
        """Uses of the connections that are gone: with those of the present ones, all leases."""

    def discards_now(self) -> Mapping[DiscardReason, int]:
        """Return a copy that nobody can change."""
        return MappingProxyType(dict(self.discards))
