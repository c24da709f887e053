"""OpenCursors: the cursors made during a lease, which must not outlive it."""

from __future__ import annotations

from typing import Any
from weakref import ref


class OpenCursors(list[ref[Any]]):
    """Remember the cursors made during a lease, to close those that outlive it.

    A cursor works as long as its connection does, whichever lease that belongs to by then: after
    the release it would read and write in the next lease's transaction, and a half-read SQLite
    cursor would hold its read lock.
    """

    __slots__ = ("_tidy_at",)

    def __init__(self) -> None:
        super().__init__()
        self._tidy_at = 64

    def add(self, cursor: Any) -> None:
        """Remember a cursor, weakly."""
        self.append(ref(cursor))
        if len(self) >= self._tidy_at:
            # Twice the living ones until next time: a long lease costs constant time per cursor.
            self[:] = [cursor for cursor in self if cursor() is not None]
            self._tidy_at = max(64, 2 * len(self))

    def take(self) -> list[Any]:
        """Return the cursors that are left open, and forget all."""
        references = self[:]
        self.clear()  # no call before this one, so that a signal handler's cursor is not lost
        return [
            cursor
            for reference in references
            if (cursor := reference()) is not None and not getattr(cursor, "closed", False)
        ]
