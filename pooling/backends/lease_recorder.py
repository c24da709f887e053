"""What a piece of work leases, recorded on demand: for Server-Timing and the toolbar's panel."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Self

from django.db import connections

from pooling.backends.base import OwnMethod, PooledDatabaseWrapper
from pooling.backends.user_code import place

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True, kw_only=True)
class RecordedLease:
    """A lease, or a failed attempt to get one. Times in seconds, of `time.perf_counter`.

    Attributes:
        alias: of the database.
        place: file and line of the user's code that led to it.
        asked: when the connection was asked for.
        began: when the lease began, None if it never did.
        ended: when it ended, None while it lasts.
        pin: why it lasts until the end of the request, with scope="transaction".
    """

    alias: str
    place: str
    asked: float
    began: float | None = None
    ended: float | None = None
    pin: str | None = None

    @property
    def waited(self) -> float:
        """Seconds until the lease began, or until the attempt failed."""
        return (self.ended or self.asked if self.began is None else self.began) - self.asked

    @property
    def held(self) -> float:
        """Seconds from its beginning until its end, or until now."""
        if self.began is None:
            return 0.0
        return (perf_counter() if self.ended is None else self.ended) - self.began


class LeaseRecorder:
    """A context manager that records the leases of the present thread's database wrappers.

    It puts functions of its own in the place of two methods, on those wrappers alone and for as
    long as it lasts: where nothing is recorded nothing is paid for. May be nested. What the work
    leases in threads of its own is not seen.
    """

    def __init__(self) -> None:
        self.leases: list[RecordedLease] = []
        self._current: dict[PooledDatabaseWrapper, RecordedLease] = {}
        self._outer: dict[PooledDatabaseWrapper, dict[str, object]] = {}

    @property
    def waited(self) -> float:
        """Seconds that the work has waited for connections, in all."""
        return sum(each.waited for each in self.leases)

    def __enter__(self) -> Self:
        for alias in connections:
            try:
                wrapper = connections[alias]
            except Exception:  # noqa: S112 - wrong settings fail where they are used
                continue
            if isinstance(wrapper, PooledDatabaseWrapper):
                own = vars(wrapper)
                self._outer[wrapper] = {name: own[name] for name in _RECORDED if name in own}
                own["connect"] = OwnMethod(self._connect, wrapper, wrapper.connect)
                own["_release"] = OwnMethod(self._release, wrapper, wrapper._release)
        return self

    def __exit__(self, *_: object) -> None:
        for wrapper, outer in self._outer.items():
            for name in _RECORDED:
                vars(wrapper).pop(name, None)
            vars(wrapper).update(outer)
        for wrapper, lease in self._current.items():
            lease.pin = _pin_of(wrapper)

    def _connect(self, wrapper: PooledDatabaseWrapper, connect: Callable[[], None]) -> None:
        lease = RecordedLease(alias=wrapper.alias, place=place(), asked=perf_counter())
        self.leases.append(lease)
        try:
            connect()
        except BaseException:
            lease.ended = perf_counter()
            raise
        lease.began = perf_counter()
        self._current[wrapper] = lease

    def _release(self, wrapper: PooledDatabaseWrapper, release: Callable[[], None]) -> None:
        lease = self._current.pop(wrapper, None)
        if lease is not None:
            lease.pin = _pin_of(wrapper)
        try:
            release()
        finally:
            if lease is not None:
                lease.ended = perf_counter()


_RECORDED = ("connect", "_release")


def _pin_of(wrapper: PooledDatabaseWrapper) -> str | None:
    lease = wrapper._lease
    record = None if lease is None else lease._owned
    if lease is None or record is None or record.pin is None:
        return None
    owner, reason = record.pin
    return reason if owner is lease._reference else None
