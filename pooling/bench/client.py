"""One client's part of a turn: which acts it does, and on which users."""

from __future__ import annotations

import random
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .users import known_users, new_users

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .statements import Act, Statements
    from .measurements import Turn
    from .workloads import Phase

# After a failed operation a client waits as long as this, as one does who comes back with the next
# request: without it a pool that refuses at once would be asked a million times.
PAUSE_AFTER_ERROR = 0.002

SHARE_OF_OTHER = 0.2


class Client:
    """What one thread or task is to do in a turn.

    Making up users takes time that has nothing to do with connections, so those that are surely
    needed are there before the clock starts.
    """

    def __init__(self, statements: Statements, turn: Turn, number: int, clients: int) -> None:
        self._statements = statements
        self._turn = turn
        self._draw = random.Random(f"{turn.seed}-{number}")
        self._fields = new_users(f"{turn.seed}-{number}")
        phases = len(turn.workload.phases)
        self.share = max(1, round(turn.iterations / clients / phases))
        if turn.workload.kind != "steady":
            self.share = 1
        acts = [phase.act for phase in turn.workload.phases]
        ahead = self.share if "insert" in acts else 0
        self._new = [statements.make_user(next(self._fields)) for _ in range(ahead)]
        self._known = [
            statements.make_user(fields, pk) for pk, fields in enumerate(known_users(), start=1)
        ]
        self._inserted: list[Any] = []

    def operations(self, phase: Phase) -> Iterator[tuple[Act, Any]]:
        """Yield what to do, until the share is done or the time is over."""
        turn = self._turn
        if turn.seconds is None:
            for number in range(self.share):
                if (operation := self._operation(phase, number)) is None:
                    return
                yield operation
            return
        end = perf_counter() + turn.seconds / len(turn.workload.phases)
        number = 0
        while perf_counter() < end and (operation := self._operation(phase, number)) is not None:
            yield operation
            number += 1

    def succeeded(self, act: Act, user: Any) -> None:
        """Note that an act has been done."""
        if act == "insert":
            self._inserted.append(user)

    def _operation(self, phase: Phase, number: int) -> tuple[Act, Any] | None:
        """Return the act of the given number and its user, or None if there is nothing to do."""
        act = phase.act
        if phase.other is not None and self._draw.random() < SHARE_OF_OTHER:
            act = phase.other
        if act in ("trivial", "first"):
            return act, None
        if act == "insert":
            if number >= len(self._new):
                self._new.append(self._statements.make_user(next(self._fields)))
            return act, self._new[number]
        if not self._writes_new:
            return act, self._draw.choice(self._known)
        if act == "delete":
            return (act, self._inserted[number]) if number < len(self._inserted) else None
        return (act, self._inserted[number % len(self._inserted)]) if self._inserted else None

    @property
    def _writes_new(self) -> bool:
        return any(phase.act == "insert" for phase in self._turn.workload.phases)
