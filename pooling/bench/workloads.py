"""The workloads, as data: which actions, in which order, by how many clients.

Every operation is a request of its own: it takes a connection, does its actions, and ends as Django
ends a request. All of that belongs to the measured time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .statements import Action


@dataclass(frozen=True, slots=True)
class Phase:
    """Operations of one kind; all clients begin a phase together, or spread over its pause.

    Attributes:
        operation: its name in the results.
        action: what is done.
        pause: seconds of other work after the action, within the request.
        then: what is done after the pause.
    """

    operation: str
    action: Action
    pause: float = 0.0
    then: Action | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that many applications do.

    Attributes:
        what: a description, in one sentence.
        phases: done one after the other; several are summed up in a total.
        crowded: it takes more threads than a pool has connections.
        threads, pool_size: what it is about, if not the same as everything else.
        longer: by what factor its turns are longer than others'. While the last operations of a
            turn end, clients are idle, which counts where an operation takes long.
        contenders: those it is about, if none are named.
        kind: `spike` is one operation per thread on a pool without connections; `exhaustion` one
            caller more than there are connections, all of which are held; `own` is the project's.
    """

    name: str
    title: str
    what: str
    phases: tuple[Phase, ...]
    crowded: bool = False
    threads: int | None = None
    pool_size: int | None = None
    longer: int = 1
    contenders: tuple[str, ...] = ()
    kind: Literal["steady", "spike", "exhaustion", "own"] = "steady"


def own_workload(target: str) -> Workload:
    """Return the project's own work: the path of a view, or a callable as `module:name`."""
    what = f"GET {target}, with all middleware." if target.startswith("/") else f"{target}()."
    return Workload("own", target, what, (Phase("own", "own"),), kind="own")


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
            *("contention", "Contention"),
            "More threads than connections; each operation holds its connection for 2 ms more.",
            (Phase("contention", "trivial", pause=0.002),),
            crowded=True,
        ),
        Workload(
            *("think", "Think"),
            "50 threads on 5 connections: read a user, do 200 ms of other work, update the user.",
            (Phase("think", "read", pause=0.2, then="update"),),
            crowded=True,
            threads=50,
            pool_size=5,
            longer=2,
            contenders=(
                *("stock", "persistent", "native"),
                *("pooled", "pooled-transaction", "pgbouncer"),
            ),
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
            "All connections are held: how long does one more caller wait, what does it get, and "
            "how soon is it served after a release?",
            (Phase("exhaustion", "trivial"),),
            crowded=True,
            kind="exhaustion",
        ),
    )
}
