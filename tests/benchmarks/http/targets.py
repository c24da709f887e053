"""The targets over HTTP: as fast as Django's native pool, and as persistent connections."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from pooling.bench.aggregation import rates_of, rounds_of
from pooling.bench.contenders import CONTENDERS
from pooling.bench.statistics import percentile, ratio
from tests.benchmarks.micro.report import OURS
from tests.benchmarks.micro.results import is_met

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pooling.bench.runner import CellRecords, Record
    from tests.benchmarks.micro.results import MicroRow

SUBJECT = "pooled"
AGAINST = ("native", "persistent")
TARGET = 1.0
RATE, P99 = "requests per second", "p99"


def rows(cells: Sequence[CellRecords]) -> list[MicroRow]:
    """Return a row for each target whose two contenders took part."""
    found = []
    for cell in cells:
        [workload] = cell.cell.workloads
        by_name = {each.contender.name: each for each in cell.records if each.rounds}
        ours = by_name.get(SUBJECT)
        for against in AGAINST:
            theirs = by_name.get(against)
            if ours is not None and theirs is not None:
                for what, figures in ((RATE, _rates), (P99, _p99)):
                    compared = figures(ours, workload.name), figures(theirs, workload.name)
                    found.append(_row(workload.name, workload.title, what, against, *compared))
    return found


def _rates(record: Record, workload: str) -> dict[int, float]:
    return rates_of(rounds_of(record, workload, workload))


def _p99(record: Record, workload: str) -> dict[int, float]:
    """Return the 99th percentile by round, in seconds, without rounds in which nothing worked.

    A round has too few requests to know its p99 (`known_percentile`). Both contenders have as few,
    and the interval of the ratio, which comes from the rounds, is as wide as that makes it.
    """
    latencies = {
        number: sorted(seconds for phase in phases for seconds in phase.latencies)
        for number, phases in rounds_of(record, workload, workload).items()
    }
    return {number: percentile(each, 0.99) for number, each in latencies.items() if each}


def _row(
    name: str,
    title: str,
    what: str,
    against: str,
    ours: Mapping[int, float],
    theirs: Mapping[int, float],
) -> MicroRow:
    """Return the row of a target.

    It is met unless the interval excludes it: of two contenders that are equally fast, each is
    ahead in half of the rounds.
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
        "against": CONTENDERS[against].title,
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
