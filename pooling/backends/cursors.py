"""The cursors of a lease."""

from __future__ import annotations

import weakref
from typing import Any


class OpenCursors:
    """Remember the cursors made during a lease, to close those that outlive it.

    A cursor works as long as its connection does, whoever owns that by then: one that is kept past
    the release would read and write in the next owner's transaction, and a half-read SQLite cursor
    would hold its read lock.
    """

    __slots__ = ("_cursors", "_tidy_at")

    def __init__(self) -> None:
        self._cursors: list[weakref.ref[Any]] = []
        self._tidy_at = 64

    def add(self, cursor: Any) -> None:
        """Remember a cursor, weakly."""
        self._cursors.append(weakref.ref(cursor))
        if len(self._cursors) >= self._tidy_at:
            # Twice the living ones until next time: a long lease costs constant time per cursor.
            self._cursors = [cursor for cursor in self._cursors if cursor() is not None]
            self._tidy_at = max(64, 2 * len(self._cursors))

    def take(self) -> list[Any]:
        """Return the cursors that are left open, and forget all."""
        if not self._cursors:
            return []
        references, self._cursors = self._cursors, []
        cursors = [reference() for reference in references]
        return [each for each in cursors if each is not None and not getattr(each, "closed", False)]
