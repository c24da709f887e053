"""Aggregation: from the contenders' reports to the result document."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

from .adapters.base import MYSQL, SIMULATED, SQLITE, mysql_driver
from .contenders import CONTENDERS
from .environment import PACKAGES
from .results import SCHEMA, TOTAL, Document, Result
from .statistics import (
    ENOUGH_ROUNDS,
    Ratio,
    histogram,
    jain,
    known_percentile,
    percentile,
    ratio,
)
from .verdict import verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .measurements import PhaseReport
    from .plan import Cell, Plan
    from .runner import CellRecords, Record
    from .workloads import Workload

SHOWN_ERRORS = 3
DRIVERS = {SQLITE: "sqlite3", SIMULATED: "simulated"}

Rounds: TypeAlias = "dict[int, list[PhaseReport]]"
"""What one contender reported about one operation, or about all of them, by round."""

Rates: TypeAlias = "Mapping[int, float]"


def rounds_of(record: Record, workload: str, operation: str) -> Rounds:
    """Select the phases of an operation; for a total, all of them."""
    return {
        number: [reports[workload].phases[operation]]
        if operation in reports[workload].phases
        else list(reports[workload].phases.values())
        for number, reports in record.rounds.items()
    }


def rates_of(rounds: Rounds) -> dict[int, float]:
    """Return successful operations per second by round, without rounds that had none."""
    found = {}
    for number, phases in rounds.items():
        operations = sum(len(phase.latencies) for phase in phases)
        seconds = sum(phase.seconds for phase in phases)
        if operations and seconds:
            found[number] = operations / seconds
    return found


def make_document(
    plan: Plan,
    cells: Sequence[CellRecords],
    environment: Mapping[str, Any],
    left_out: Sequence[dict[str, str]],
    seconds: float,
    interrupted: str | None = None,
    warnings: Sequence[str] = (),
) -> Document:
    """Put everything together."""
    results = [result for each in cells for result in results_of(plan, each)]
    took_part = {result["contender"] for result in results}
    measured = {workload.name: workload for each in cells for workload in each.cell.workloads}
    missing = [found for each in plan.contenders if (found := each.missing()) is not None]
    compared = [each["rounds"] for each in results if each["ratio"] and not each["sweep"]]
    document: Document = {
        "schema": SCHEMA,
        "verdict": [],
        "environment": environment,
        "settings": plan.settings(),
        "contenders": [each.info() for each in plan.contenders if each.name in took_part],
        "workloads": [
            {"name": each.name, "title": each.title, "what": each.what}
            for each in measured.values()
        ],
        "results": results,
        "left_out": [*missing, *left_out],
        "warnings": [*warnings, *reliability_warnings(compared, environment)],
        "interrupted": interrupted,
        "duration_seconds": round(seconds, 1),
    }
    document["verdict"] = verdict(document)
    return document


def results_of(plan: Plan, found: CellRecords) -> list[Result]:
    """Return one result for each contender, workload and operation of a cell.

    A contender's baseline is the plan's, or the first at the same level with the same driver.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in found.records:
        if record.rounds or record.problem:
            key = record.contender.level, _driver(found, record)
            groups.setdefault(key, []).append(record)
    results = []
    for workload in found.cell.workloads:
        for operation in operations_of(workload):
            for records in groups.values():
                results += _compared(plan, found, workload, operation, records)
    return results


def _driver(found: CellRecords, record: Record) -> str:
    if found.vendor == MYSQL:
        return PACKAGES[mysql_driver().__name__]
    return DRIVERS.get(found.vendor, record.contender.driver)


def operations_of(workload: Workload) -> list[str]:
    """Return the names of a workload's operations, with their total if there are several."""
    names = [phase.operation for phase in workload.phases]
    return [workload.name] if len(names) == 1 else [*names, TOTAL]


def _compared(
    plan: Plan, found: CellRecords, workload: Workload, operation: str, records: Sequence[Record]
) -> list[Result]:
    rates = {
        each.contender.name: rates_of(rounds_of(each, workload.name, operation))
        for each in found.records
    }
    names = [record.contender.name for record in records]
    able = [name for name in (*CONTENDERS, *names) if name in names and rates[name]] or names
    baseline = plan.baseline if plan.baseline in rates else able[0]
    exhaustion = workload.kind == "exhaustion"
    results = []
    for record in records:
        name = record.contender.name
        result = _result(found, record, workload, operation)
        if not exhaustion:
            result["baseline"] = name == baseline
            if result["baseline"]:
                result["ratio"] = result["ratio_low"] = result["ratio_high"] = 1.0
            elif (own_ratio := paired(rates[name], rates[baseline])) is not None:
                result["ratio"] = round(own_ratio.value, 4)
                result["ratio_low"] = round(own_ratio.low, 4)
                result["ratio_high"] = round(own_ratio.high, 4)
        results.append(result)
    if not exhaustion:
        rank(results, rates)
    return results


def paired(own: Rates, other: Rates) -> Ratio | None:
    """Return a ratio from the rates of the rounds that both have."""
    if not (both := sorted(own.keys() & other.keys())):
        return None
    return ratio([other[each] for each in both], [own[each] for each in both])


def rank(results: Sequence[Result], rates: Mapping[str, Rates]) -> None:
    """Rank those without errors by paired ratios; those that tie with a rank's first share it."""
    clean = [each for each in results if not each["errors"] and each["ratio"]]
    clean.sort(key=lambda each: -(each["ratio"] or 0))
    first, place = None, 0
    for number, each in enumerate(clean, start=1):
        found = first and paired(rates[each["contender"]], rates[first])
        if found is None or not found.is_tie:
            first, place = each["contender"], number
        each["rank"] = place


def _result(found: CellRecords, record: Record, workload: Workload, operation: str) -> Result:
    cell: Cell = found.cell
    rounds = rounds_of(record, workload.name, operation)
    phases = [phase for each in rounds.values() for phase in each]
    latencies = sorted(seconds * 1000 for phase in phases for seconds in phase.latencies)
    exhaustion = workload.kind == "exhaustion"
    rates = {} if exhaustion else rates_of(rounds)
    errors = sum((phase.errors for phase in phases), Counter())
    fair = [index for phase in phases if (index := jain(phase.rates)) is not None]
    acquiring = 1000 * sum(phase.acquiring for phase in phases)
    cpu = [phase.cpu for phase in phases if phase.cpu is not None]
    tried = len(latencies) + (0 if exhaustion else errors.total())

    def at(share: float) -> float | None:
        value = known_percentile(latencies, share)
        return None if value is None else round(value, 4)

    return {
        "database": found.database,
        "contender": record.contender.name,
        "driver": _driver(found, record),
        "workload": workload.name,
        "operation": operation,
        "threads": cell.threads,
        "pool_size": cell.pool_size,
        # Of exhaustion, the time until an error is what is measured: it is among the latencies.
        "operations": len(latencies) - (errors.total() if exhaustion else 0),
        "errors": errors.total(),
        "rounds": len(record.rounds),
        "elapsed_seconds": round(sum(phase.seconds for phase in phases), 3),
        "ops_per_second": round(median(rates.values()), 2) if rates else None,
        "rank": None,
        "p50_ms": round(percentile(latencies, 0.5), 4) if latencies else None,
        "p99_ms": at(0.99),
        "p999_ms": at(0.999),
        "max_ms": round(latencies[-1], 4) if latencies else None,
        "cpu_ms": round(1000 * sum(cpu) / tried, 4) if cpu and tried else None,
        "connections_opened": record.opened.opened if record.opened else None,
        "peak_connections": record.opened.peak if record.opened else None,
        "wait_share": round(acquiring / sum(latencies), 4) if rates else None,
        "fairness": round(median(fair), 4) if fair and not exhaustion else None,
        "baseline": False,
        "ratio": None,
        "ratio_low": None,
        "ratio_high": None,
        "histogram": histogram(latencies),
        "rounds_ops_per_second": [
            round(rates[number], 2) if number in rates else None
            for number in range(1, max(rates, default=0) + 1)
        ],
        "sweep": cell.sweep,
        "note": _note(record, workload, errors),
    }


def _note(record: Record, workload: Workload, errors: Counter[str]) -> str | None:
    """Say what went wrong, and what cannot be said in numbers."""
    parts = [record.problem] if record.problem else []
    told = [note for each in record.rounds.values() if (note := each[workload.name].note)]
    parts += told
    if errors and not told:
        parts += [f"{count} x {error}" for error, count in errors.most_common(SHOWN_ERRORS)]
        if (more := len(errors) - SHOWN_ERRORS) > 0:
            parts.append(f"{more} other kinds of errors")
    return "; ".join(parts) or None


def reliability_warnings(rounds: Sequence[int], environment: Mapping[str, Any]) -> list[str]:
    """Say what makes ratios over these numbers of rounds less reliable than they look."""
    found = []
    load, cores = environment["load_average"], environment["cores"]
    if load and load[0] > cores:
        found.append(f"the machine was busy before the run: a load of {load[0]:g} on {cores} cores")
    few = min(rounds, default=ENOUGH_ROUNDS)
    if few < ENOUGH_ROUNDS:
        found.append(
            f"with fewer than {ENOUGH_ROUNDS} rounds (here {few}) the intervals are too narrow"
        )
    return found
