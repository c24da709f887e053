"""What is measured, as data: which acts, in which order, by how many, how long.

Every operation is a request of its own: it takes a connection, does one act, and ends as Django
ends a request. All of that belongs to the measured time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .statements import Act


@dataclass(frozen=True, slots=True)
class Phase:
    """Operations of one kind; all threads begin a phase together.

    Attributes:
        operation: its name in the results.
        act: what is done.
        other: what is done instead, by chance, in a fifth of the cases.
    """

    operation: str
    act: Act
    other: Act | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Something to do that many applications do.

    Attributes:
        phases: done one after the other; several are summed up in a total.
        hold: seconds for which each operation keeps its connection beyond its act.
        seconds: how long a turn takes, if it is ended by the clock and not by the count.
        crowd: it takes more threads than a pool has connections.
        kind: `spike` is one operation per thread on a pool without connections; `exhaustion` one
            caller more than there are connections, all of which are held.
    """

    name: str
    title: str
    what: str
    phases: tuple[Phase, ...]
    hold: float = 0.0
    seconds: float | None = None
    crowd: bool = False
    kind: Literal["steady", "spike", "exhaustion"] = "steady"


CONNECT = Workload(
    name="connect",
    title="Connect",
    what="Take a connection, do one trivial query, give it back.",
    phases=(Phase("connect", "trivial"),),
)
CRUD = Workload(
    name="crud",
    title="Insert, read, update, delete",
    what="Users are inserted, read, updated and deleted one by one, each in a request of its own.",
    phases=(
        Phase("insert", "insert"),
        Phase("read", "read"),
        Phase("update", "update"),
        Phase("delete", "delete"),
    ),
)
READ = Workload(
    name="read",
    title="Read",
    what="The users with id < 10 are selected, again and again.",
    phases=(Phase("read", "first"),),
)
MIXED = Workload(
    name="mixed",
    title="Mixed",
    what="Four of five operations read a user, the fifth updates one.",
    phases=(Phase("mixed", "read", other="update"),),
)
CONTENTION = Workload(
    name="contention",
    title="Contention",
    what="More threads than connections; each operation holds its connection for 2 ms more.",
    phases=(Phase("contention", "trivial"),),
    hold=0.002,
    seconds=0.2,
    crowd=True,
)
SPIKE = Workload(
    name="spike",
    title="Spike",
    what="More threads than connections arrive at the same moment, when none is open yet.",
    phases=(Phase("spike", "trivial"),),
    crowd=True,
    kind="spike",
)
EXHAUSTION = Workload(
    name="exhaustion",
    title="Exhaustion",
    what="All connections are held; how long does one more caller wait, and what does it get?",
    phases=(Phase("exhaustion", "trivial"),),
    crowd=True,
    kind="exhaustion",
)
WORKLOADS = {
    workload.name: workload
    for workload in (CONNECT, CRUD, READ, MIXED, CONTENTION, SPIKE, EXHAUSTION)
}
