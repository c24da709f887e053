"""How large a pool should be: the arithmetic, and what it is made of."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the pools of an alias did while somebody looked.

    Attributes:
        processes: how many processes had such a pool at both looks.
        hosts: on how many hosts they are.
        seconds: between the two looks, the mean of the processes.
        leases: leases that ended meanwhile.
        held: how many connections were held at a time on average: the durations of these leases
            in each process, by the time between its looks, added up.
        queued: how many callers were queueing at a time on average, likewise.
        timeouts: callers that got nothing.
    """

    processes: int
    hosts: int
    seconds: float
    leases: int
    held: float
    queued: float
    timeouts: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known; None is what is not.

    Attributes:
        max_size: as configured.
        processes: on all hosts together.
        processes_source: who says so.
        threads: of each process.
        cores: of the database server.
        cores_source: who says so.
        spindles: disks of the server that can work at the same time.
        max_connections: of the server.
        reserved: how many of them are not for everybody.
        pooler: whether there is a PgBouncer before the server, which then bounds the connections.
        measured: what the pools did.
    """

    max_size: int
    processes: int = 1
    processes_source: str = "nothing says otherwise"
    threads: int | None = None
    cores: int | None = None
    cores_source: str = ""
    spindles: int = 1
    max_connections: int | None = None
    reserved: int = 0
    pooler: str | None = None
    measured: Measured | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A line of the arithmetic.

    Attributes:
        name: what is calculated.
        formula: how, with the numbers in it.
        result: connections in each process, or None if it limits nothing.
    """

    name: str
    formula: str
    result: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Recommendation:
    """What comes of it.

    Attributes:
        max_size: the recommendation, for each process.
        reason: which of the steps decides.
        steps: the arithmetic.
        unknown: what it does not know, in sentences.
    """

    max_size: int
    reason: str
    steps: tuple[Step, ...]
    unknown: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as data that JSON can hold."""
        return dataclasses.asdict(self)


def recommend(facts: Facts) -> Recommendation:
    """Do the arithmetic.

    What is measured decides how many are wanted; without a measurement it is what the server can
    work on at the same time (cores x 2 + spindles, https://wiki.postgresql.org/wiki/
    Number_Of_Database_Connections). Then come the limits: the threads, since more cannot be used,
    and the server's room, since more cannot be had.
    """
    demand = _demand(facts)
    productive = _productive(facts)
    room = _room(facts)
    threads = _threads(facts)
    wanted = next((step for step in (demand, productive) if step.result is not None), None)
    if wanted is None or wanted.result is None:
        number, reason = facts.max_size, "the present max_size, for want of anything better"
    else:
        number, reason = wanted.result, wanted.name
    for limit in (threads, room):
        if limit.result is not None and limit.result < number:
            number, reason = limit.result, limit.name
    number = max(number, 1)
    total = Step(
        "together",
        f"{_count(facts.processes, 'process', 'es')} x {number} = {facts.processes * number} "
        "connections at most",
        None,
    )
    steps = (demand, productive, threads, room, total)
    return Recommendation(number, reason, steps, tuple(_unknown(facts)))


def measure(
    before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]
) -> Measured | None:
    """Return what happened between two looks at the fleet (see `pooling.fleet`).

    Only pools that were there both times count, and whose numbers were not cleared meanwhile.
    """
    first = {process["id"]: process for process in before}
    pairs = []
    hosts = set()
    for process in after:
        earlier = first.get(process["id"])
        if earlier is None or process["time"] <= earlier["time"] or not process["pools"]:
            continue
        difference = _difference(earlier, process)
        if difference is not None:
            pairs.append((process["time"] - earlier["time"], difference))
            hosts.add(process["host"])
    if not pairs:
        return None
    return Measured(
        processes=len(pairs),
        hosts=len(hosts),
        seconds=sum(seconds for seconds, _ in pairs) / len(pairs),
        leases=sum(int(each["leases"]) for _, each in pairs),
        held=sum(each["held"] / seconds for seconds, each in pairs),
        queued=sum(each["queued"] / seconds for seconds, each in pairs),
        timeouts=sum(int(each["timeouts"]) for _, each in pairs),
    )


def _difference(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, float] | None:
    sums = [
        {
            "leases": sum(pool["stats"]["holds"]["count"] for pool in process["pools"]),
            "held": sum(pool["stats"]["holds"]["seconds"] for pool in process["pools"]),
            "queued": sum(pool["stats"]["waits"]["seconds"] for pool in process["pools"]),
            "timeouts": sum(pool["stats"]["timeouts"] for pool in process["pools"]),
        }
        for process in (earlier, later)
    ]
    difference = {key: sums[1][key] - sums[0][key] for key in sums[0]}
    return None if min(difference.values()) < 0 else difference


def _demand(facts: Facts) -> Step:
    name = "Little's law"
    measured = facts.measured
    if measured is None:
        return Step(name, "nothing was measured", None)
    if not measured.leases:
        return Step(name, f"no lease ended within {measured.seconds:.1f} s", None)
    rate = measured.leases / measured.seconds
    held = measured.held / rate * 1e3
    busy = measured.held + measured.queued
    mean = busy / measured.processes
    result = max(math.ceil(mean + 2 * math.sqrt(mean)), 1)
    where = f"{_count(measured.processes, 'process', 'es')} on {_count(measured.hosts, 'host')}"
    return Step(
        name,
        f"{rate:.1f} leases/s x {held:.1f} ms held = {measured.held:.2f} in use + "
        f"{measured.queued:.2f} queueing = {busy:.2f}; by {where} = {mean:.2f} each; "
        f"+ 2 standard deviations (2 x sqrt {mean:.2f}) = {result} per process",
        result,
    )


def _productive(facts: Facts) -> Step:
    name = "cores x 2 + spindles"
    if facts.cores is None:
        return Step(name, "the cores of the database server are not known", None)
    total = facts.cores * 2 + facts.spindles
    result = max(math.ceil(total / facts.processes), 1)
    return Step(
        name,
        f"{facts.cores} cores x 2 + {facts.spindles} spindles = {total} that the server can work "
        f"on at a time; by {_count(facts.processes, 'process', 'es')} = {result} per process",
        result,
    )


def _room(facts: Facts) -> Step:
    name = "max_connections"
    if facts.pooler is not None:
        return Step(name, "a PgBouncer stands before the server, and its limits count", None)
    if facts.max_connections is None:
        return Step(name, "not known, or there is none", None)
    room = facts.max_connections - facts.reserved
    result = max(room // facts.processes, 1)
    formula = (
        f"({facts.max_connections} - {facts.reserved} reserved) / "
        f"{_count(facts.processes, 'process', 'es')} "
        f"({facts.processes_source}) = {room / facts.processes:.1f} per process at most"
    )
    if room < facts.processes:
        formula += ": there are more processes than connections"
    return Step(name, formula, result)


def _threads(facts: Facts) -> Step:
    if facts.threads is None:
        return Step("threads", "not known; a pool larger than their number is never used up", None)
    return Step("threads", f"{facts.threads} threads can use that many at most", facts.threads)


def _unknown(facts: Facts) -> Iterable[str]:
    if facts.measured is None or not facts.measured.leases:
        yield "What your load needs: run it, and run this meanwhile."
    else:
        yield (
            f"Whether these {facts.measured.seconds:.0f} s were typical: measure at the busiest "
            "time. Leases that did not end within them are not in the numbers."
        )
        yield "How much of the time that a connection is held the database works at all."
        if facts.measured.queued:
            yield (
                "How many more would have come: callers queued, so the demand may be larger than "
                "what was measured."
            )
        if facts.measured.processes < facts.processes:
            yield (
                f"What the other {facts.processes - facts.measured.processes} processes do: only "
                f"{facts.measured.processes} could be seen."
            )
    if facts.cores is None:
        yield "The cores and disks of the database server: --server-cores and --spindles say so."
    elif facts.cores_source:
        yield f"Whether the database server has these cores for itself ({facts.cores_source})."
    yield "What else uses the server: other projects, cron jobs, you with psql."
    yield "How many processes there will be while a deployment runs two versions side by side."


def _count(number: int, of: str, plural: str = "s") -> str:
    return f"{number} {of}{plural * (number != 1)}"
