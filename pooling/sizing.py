"""Sizing: calculate a recommended `max_size` from measurements and limits."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Measurement of the pools of an alias between two samples.

    Attributes:
        processes: number of processes with such a pool in both samples.
        hosts: number of their hosts.
        seconds: time between the samples, mean of the processes.
        leases: leases that ended between the samples.
        held: mean number of connections in use: for each process the hold time of these leases
            divided by the time between its samples, summed.
        queued: mean number of queueing callers, calculated likewise.
        timeouts: acquires that timed out.
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
    """Input of the calculation; None means unknown.

    Attributes:
        max_size: the configured one.
        processes: on all hosts together.
        processes_source: where the number of processes comes from.
        threads: of each process.
        cores: of the database server.
        cores_source: where the number of cores comes from.
        spindles: disks of the server that work independently.
        max_connections: of the server.
        reserved: connections of the server that are reserved.
        max_user_connections: how many of them the user may have, None without such a limit.
        pooler: mode of a PgBouncer in front of the server, whose limits then apply.
        measured: the measurement of the pools.
    """

    max_size: int
    processes: int = 1
    processes_source: str = "default"
    threads: int | None = None
    cores: int | None = None
    cores_source: str = ""
    spindles: int = 1
    max_connections: int | None = None
    reserved: int = 0
    max_user_connections: int | None = None
    pooler: str | None = None
    measured: Measured | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A step of the calculation.

    Attributes:
        name: what is calculated.
        formula: the formula with its numbers.
        result: connections per process, or None if the step sets no limit.
    """

    name: str
    formula: str
    result: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Recommendation:
    """Result of the calculation.

    Attributes:
        max_size: the recommended one, per process.
        reason: the step that decides.
        advice: whether load was seen; otherwise `max_size` is a limit and no advice.
        steps: all steps.
        unknown: what the calculation does not know, as sentences.
    """

    max_size: int
    reason: str
    advice: bool
    steps: tuple[Step, ...]
    unknown: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON-compatible data."""
        return dataclasses.asdict(self)


def recommend(facts: Facts) -> Recommendation:
    """Calculate the recommended `max_size`.

    The measured demand decides; without a measurement the number of queries that the server can
    run in parallel (cores x 2 + spindles, https://wiki.postgresql.org/wiki/
    Number_Of_Database_Connections). The result is limited by the number of threads and by the
    server's connection limit.
    """
    demand = _demand(facts)
    productive = _productive(facts)
    room = _room(facts)
    threads = _threads(facts)
    wanted = next((step for step in (demand, productive) if step.result is not None), None)
    if wanted is None or wanted.result is None:
        number, reason = facts.max_size, "the present max_size: nothing else is known"
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
    advice = facts.measured is not None and facts.measured.leases > 0
    return Recommendation(number, reason, advice, steps, tuple(_unknown(facts)))


def measure(
    before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]
) -> Measured | None:
    """Return the measurement between two samples of the fleet (see `pooling.fleet`).

    Processes count if they are in both samples and their statistics were not cleared in between.
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
    totals = [
        {
            "leases": sum(pool["stats"]["holds"]["count"] for pool in process["pools"]),
            "held": sum(pool["stats"]["holds"]["seconds"] for pool in process["pools"]),
            "queued": sum(pool["stats"]["waits"]["seconds"] for pool in process["pools"]),
            "timeouts": sum(pool["stats"]["timeouts"] for pool in process["pools"]),
        }
        for process in (earlier, later)
    ]
    difference = {key: totals[1][key] - totals[0][key] for key in totals[0]}
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
        return Step(name, "the cores of the database server are unknown", None)
    total = facts.cores * 2 + facts.spindles
    result = max(math.ceil(total / facts.processes), 1)
    return Step(
        name,
        f"{facts.cores} cores x 2 + {facts.spindles} spindles = {total} that the server can run "
        f"in parallel; by {_count(facts.processes, 'process', 'es')} = {result} per process",
        result,
    )


def _room(facts: Facts) -> Step:
    name = "max_connections"
    if facts.pooler is not None:
        return Step(name, "a PgBouncer is in front of the server; its limits apply", None)
    if facts.max_connections is None:
        return Step(name, "unknown, or no limit", None)
    room = facts.max_connections - facts.reserved
    limit = f"({facts.max_connections} - {facts.reserved} reserved)"
    if facts.max_user_connections is not None and facts.max_user_connections < room:
        room = facts.max_user_connections
        name, limit = "max_user_connections", str(room)
    result = max(room // facts.processes, 1)
    formula = (
        f"{limit} / {_count(facts.processes, 'process', 'es')} "
        f"({facts.processes_source}) = {room / facts.processes:.1f} per process at most"
    )
    if room < facts.processes:
        formula += ": there are more processes than connections"
    return Step(name, formula, result)


def _threads(facts: Facts) -> Step:
    if facts.threads is None:
        return Step(
            "threads", "unknown; no process uses more connections than it has threads", None
        )
    return Step(
        "threads", f"{facts.threads} threads use at most as many connections", facts.threads
    )


def _unknown(facts: Facts) -> Iterable[str]:
    if facts.measured is None or not facts.measured.leases:
        yield "The demand of your load: run this command while the load runs."
    else:
        yield (
            f"Whether these {facts.measured.seconds:.0f} s were typical: measure at peak load. "
            "Leases that did not end within them are not included."
        )
        yield "For how much of the hold time the database is busy."
        if facts.measured.queued:
            yield ("How much larger the demand is than measured: callers had to queue.")
        if facts.measured.processes < facts.processes:
            yield (
                f"The demand of the other {facts.processes - facts.measured.processes} processes: "
                f"only {facts.measured.processes} could be measured."
            )
    if facts.cores is None:
        yield "The cores and disks of the database server: set --server-cores and --spindles."
    elif facts.cores_source:
        yield f"Whether the database server uses these cores alone ({facts.cores_source})."
    yield "Other clients of the server: other projects, cron jobs, psql or mysql."
    yield "The number of processes during a deployment that runs two versions in parallel."


def _count(number: int, of: str, plural: str = "s") -> str:
    return f"{number} {of}{plural * (number != 1)}"
