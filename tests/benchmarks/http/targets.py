"""The targets over HTTP: as fast as Django's native pool, and as connections that stay."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from pooling.bench.aggregation import rates_of, rounds_of
from pooling.bench.contenders import CONTENDERS
from pooling.bench.results import Document
from pooling.bench.statistics import percentile, ratio
from tests.benchmarks.micro.report import OURS
from tests.benchmarks.micro.results import is_met

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pooling.bench.runner import CellRecords, Record
    from tests.benchmarks.micro.results import MicroRow

SUBJECT = "pooled"
RIVALS = ("native", "persistent")
TARGET = 1.0
RATE, P99 = "requests per second", "p99"


class HttpDocument(Document):
    """All of a run."""

    rows: list[MicroRow]


def rows(cells: Sequence[CellRecords]) -> list[MicroRow]:
    """Return a row for each target whose two contenders took part."""
    found = []
    for cell in cells:
        [workload] = cell.cell.workloads
        by_name = {each.contender.name: each for each in cell.records if each.rounds}
        ours = by_name.get(SUBJECT)
        for rival in RIVALS:
            theirs = by_name.get(rival)
            if ours is not None and theirs is not None:
                for what, figures in ((RATE, _rates), (P99, _p99)):
                    compared = figures(ours, workload.name), figures(theirs, workload.name)
                    found.append(_row(workload.name, workload.title, what, rival, *compared))
    return found


def _rates(record: Record, workload: str) -> dict[int, float]:
    return rates_of(rounds_of(record, workload, workload))


def _p99(record: Record, workload: str) -> dict[int, float]:
    """Return the 99th percentile by round, in seconds, without rounds in which nothing worked."""
    latencies = {
        number: sorted(seconds for phase in phases for seconds in phase.latencies)
        for number, phases in rounds_of(record, workload, workload).items()
    }
    return {number: percentile(each, 0.99) for number, each in latencies.items() if each}


def _row(
    name: str,
    title: str,
    what: str,
    rival: str,
    ours: Mapping[int, float],
    theirs: Mapping[int, float],
) -> MicroRow:
    """Return the row of a target.

    It is met unless the interval excludes it: who is as fast as another is ahead in every second
    round.
    """
    both = sorted(ours.keys() & theirs.keys())
    own, other = [ours[each] for each in both], [theirs[each] for each in both]
    compared = ratio(other, own) if both else None
    at_least = what == RATE
    met = None
    if compared is not None:
        met = is_met(compared, TARGET, at_least=at_least) is not False
    return {
        "benchmark": name,
        "title": title,
        "what": what,
        "subject": OURS,
        "against": CONTENDERS[rival].title,
        "unit": "rate" if what == RATE else "time",
        "ours": median(own) if both else None,
        "theirs": median(other) if both else None,
        "value": compared and compared.value,
        "low": compared and compared.low,
        "high": compared and compared.high,
        "processor": None,
        "target": TARGET,
        "at_least": at_least,
        "met": met,
        "rounds": len(both),
        "note": None if both else "not measured",
    }
