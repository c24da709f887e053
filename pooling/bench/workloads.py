"""The workloads, as data: which actions, in which order, by how many clients, for how long.

Every operation is a request of its own: it takes a connection, does one action, and ends as Django
ends a request. All of that belongs to the measured time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .statements import Action


@dataclass(frozen=True, slots=True)
class Phase:
    """Operations of one kind; all clients begin a phase together.

    Attributes:
        operation: its name in the results.
        action: what is done.
        other: what is done instead, by chance, in a fifth of the cases.
    """

    operation: str
    action: Action
    other: Action | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that many applications do.

    Attributes:
        what: a description, in one sentence.
        phases: done one after the other; several are summed up in a total.
        hold: seconds for which each operation keeps its connection beyond its action.
        seconds: how long a trial takes, if it is ended by the clock and not by the count.
        crowded: it takes more threads than a pool has connections.
        kind: `spike` is one operation per thread on a pool without connections; `exhaustion` one
            caller more than there are connections, all of which are held.
    """

    name: str
    title: str
    what: str
    phases: tuple[Phase, ...]
    hold: float = 0.0
    seconds: float | None = None
    crowded: bool = False
    kind: Literal["steady", "spike", "exhaustion"] = "steady"


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            *("connect", "Connect", "Take a connection, do one trivial query, give it back."),
            (Phase("connect", "trivial"),),
        ),
        Workload(
            *("crud", "Insert, read, update, delete"),
            "Users are inserted, read, updated and deleted one by one, each in a request of its "
            "own.",
            tuple(Phase(name, name) for name in ("insert", "read", "update", "delete")),
        ),
        Workload(
            *("read", "Read", "The users with id < 10 are selected, again and again."),
            (Phase("read", "first"),),
        ),
        Workload(
            *("mixed", "Mixed", "Four of five operations read a user, the fifth updates one."),
            (Phase("mixed", "read", other="update"),),
        ),
        Workload(
            *("contention", "Contention"),
            "More threads than connections; each operation holds its connection for 2 ms more.",
            (Phase("contention", "trivial"),),
            hold=0.002,
            seconds=0.2,
            crowded=True,
        ),
        Workload(
            *("spike", "Spike"),
            "More threads than connections arrive at the same moment, when none is open yet.",
            (Phase("spike", "trivial"),),
            crowded=True,
            kind="spike",
        ),
        Workload(
            *("exhaustion", "Exhaustion"),
            "All connections are held; how long does one more caller wait, and what does it get?",
            (Phase("exhaustion", "trivial"),),
            crowded=True,
            kind="exhaustion",
        ),
    )
}
