"""Aggregation: from the contenders' reports to the result document."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

from pooling.formatting import plural

from .contenders import CONTENDERS
from .results import SCHEMA, TOTAL, Document, Environment, LeftOut, Result, is_clear
from .statistics import ENOUGH_ROUNDS, histogram, jain, percentile, ratio
from .workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .measurements import PhaseReport
    from .plan import Cell, Plan
    from .runner import CellRecords, Record

SHOWN_ERRORS = 3


Rounds: TypeAlias = "dict[int, list[PhaseReport]]"
"""What one contender reported about one operation, or about all of them, by round."""


def rounds_of(record: Record, operation: str) -> Rounds:
    """Select the phases of an operation; for a total, all of them."""
    return {
        number: [report.phases[operation]]
        if operation in report.phases
        else list(report.phases.values())
        for number, report in record.rounds.items()
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
    environment: Environment,
    left_out: Sequence[LeftOut],
    seconds: float,
) -> Document:
    """Put everything together."""
    results = [result for each in cells for result in results_of(plan, each)]
    took_part = {result["contender"] for result in results}
    measured = {result["workload"] for result in results}
    missing = [found for each in plan.contenders if (found := each.missing()) is not None]
    compared = [each["rounds"] for each in results if each["ratio"]]
    return {
        "schema": SCHEMA,
        "environment": environment,
        "settings": plan.settings(),
        "contenders": [each.info() for each in plan.contenders if each.name in took_part],
        "workloads": [
            {"name": each.name, "title": each.title, "what": each.what}
            for each in (plan.workloads or WORKLOADS.values())
            if each.name in measured
        ],
        "results": results,
        "left_out": [*missing, *left_out],
        "warnings": reliability_warnings(compared, environment) + _noise(results),
        "duration_seconds": round(seconds, 1),
    }


def results_of(plan: Plan, found: CellRecords) -> list[Result]:
    """Return one result for each contender and operation of a cell."""
    names = [record.contender.name for record in found.records]
    first = next((name for name in CONTENDERS if name in names), names[0])
    baseline = plan.baseline if plan.baseline in names else first
    results = []
    for operation in operations_of(found.cell):
        rates = {
            each.contender.name: rates_of(rounds_of(each, operation)) for each in found.records
        }
        for record in found.records:
            name = record.contender.name
            result = _result(found, record, operation)
            if found.cell.workload.kind != "exhaustion":
                result["baseline"] = name == baseline
                _compare(result, rates[name], rates[baseline], plan.seed)
            results.append(result)
    return results


def operations_of(cell: Cell) -> list[str]:
    """Return the names of the operations of a cell, with their total if there are several."""
    names = [phase.operation for phase in cell.workload.phases]
    return [cell.workload.name] if len(names) == 1 else [*names, TOTAL]


def _result(found: CellRecords, record: Record, operation: str) -> Result:
    cell, rounds = found.cell, rounds_of(record, operation)
    phases = [phase for each in rounds.values() for phase in each]
    latencies = sorted(seconds * 1000 for phase in phases for seconds in phase.latencies)
    exhaustion = cell.workload.kind == "exhaustion"
    rates = [] if exhaustion else list(rates_of(rounds).values())
    errors = sum((phase.errors for phase in phases), Counter())
    fair = [index for phase in phases if (index := jain(phase.rates)) is not None]
    acquiring = 1000 * sum(phase.acquiring for phase in phases)

    def at(share: float) -> float | None:
        return round(percentile(latencies, share), 4) if latencies else None

    return {
        "database": found.database,
        "contender": record.contender.name,
        "workload": cell.workload.name,
        "operation": operation,
        "threads": cell.threads,
        # Of exhaustion, the time until an error is what is measured: it is among the latencies.
        "operations": len(latencies) - (errors.total() if exhaustion else 0),
        "errors": errors.total(),
        "rounds": len(record.rounds),
        "ops_per_second": round(median(rates), 2) if rates else None,
        "p50_ms": at(0.5),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
        "connections_opened": record.opened.opened if record.opened else None,
        "peak_connections": record.opened.peak if record.opened else None,
        "wait_share": round(acquiring / sum(latencies), 4) if rates else None,
        "fairness": round(median(fair), 4) if fair and not exhaustion else None,
        "baseline": False,
        "ratio": None,
        "ratio_low": None,
        "ratio_high": None,
        "histogram": histogram(latencies),
        "rounds_ops_per_second": [round(rate, 2) for rate in rates],
        "sweep": cell.sweep,
        "note": _note(record, errors),
    }


def _note(record: Record, errors: Counter[str]) -> str | None:
    """Say what went wrong, and what cannot be said in numbers."""
    parts = [record.problem] if record.problem else []
    told = [report.note for report in record.rounds.values() if report.note]
    parts += told
    if errors and not told:
        parts += [f"{count} x {error}" for error, count in errors.most_common(SHOWN_ERRORS)]
        if (more := len(errors) - SHOWN_ERRORS) > 0:
            parts.append(f"{more} other kinds of errors")
    return "; ".join(parts) or None


def _compare(result: Result, own: dict[int, float], baseline: dict[int, float], seed: int) -> None:
    """Set a result's ratio, from the rates of the rounds that both have."""
    if result["baseline"]:
        result["ratio"] = result["ratio_low"] = result["ratio_high"] = 1.0
    elif both := sorted(own.keys() & baseline.keys()):
        found = ratio([baseline[each] for each in both], [own[each] for each in both], seed=seed)
        result["ratio"] = round(found.value, 4)
        result["ratio_low"], result["ratio_high"] = round(found.low, 4), round(found.high, 4)


def reliability_warnings(rounds: Sequence[int], environment: Environment) -> list[str]:
    """Say what makes ratios over these numbers of rounds less reliable than they look."""
    found = []
    load, cores = environment["load_average"], environment["cores"]
    if load and load[0] > cores / 2:
        found.append(f"the machine was busy before the run: a load of {load[0]:g} on {cores} cores")
    few = min(rounds, default=ENOUGH_ROUNDS)
    if few < ENOUGH_ROUNDS:
        found.append(
            f"with fewer than {ENOUGH_ROUNDS} rounds (here {few}) the intervals are too narrow"
        )
    return found


def _noise(results: Sequence[Result]) -> list[str]:
    """Name the differences that are smaller than the noise."""
    unclear: dict[tuple[str, str, int], list[str]] = {}
    baselines = {}
    for each in results:
        key = each["database"], each["workload"], each["threads"]
        if each["baseline"]:
            baselines[key] = each["contender"]
        # The parts are noisier than the whole, and too many to name.
        is_part = each["operation"] not in (TOTAL, each["workload"])
        if not (each["baseline"] or each["sweep"] or is_part or is_clear(each) is not False):
            unclear.setdefault(key, []).append(each["contender"])
    return [
        f"{database}, {workload}, {plural(threads, 'thread')}: the noise is larger than the "
        f"difference between {baselines[database, workload, threads]} and {', '.join(names)}"
        for (database, workload, threads), names in unclear.items()
    ]
