"""Aggregation: from what the subjects measured to the rows of the result document."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, TypedDict

from pooling.bench.aggregation import reliability_warnings
from pooling.bench.results import SCHEMA
from pooling.bench.statistics import Ratio, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .definitions import Target
    from .runner import Budget, Found

SUITE = "micro"
PROCESSOR = "processor"


class MicroRow(TypedDict):
    """One figure, by itself or divided by another one. What could not be measured is None."""

    benchmark: str
    title: str  # the benchmark's
    what: str  # what is measured, where the title does not say so
    subject: str  # whose figure it is
    against: str  # what it is divided by; "" for a figure by itself
    unit: str  # of `ours` and `theirs`: time (seconds), bytes, rate (per second), number, share
    ours: float | None  # the median over the rounds
    theirs: float | None
    value: float | None  # the median of the rounds' ratios; of a figure by itself, `ours`
    low: float | None  # a 95 % interval around it
    high: float | None
    processor: float | None  # the same ratio of processor time, where that was measured
    target: float | None
    at_least: bool  # whether the target is the least, not the most
    met: bool | None  # None if undecided (see `is_met`), without a target, or not measured
    rounds: int
    note: str | None  # why there is no figure


class MicroLeftOut(TypedDict):
    """A subject that did not take part in a benchmark, or not to the end."""

    benchmark: str
    subject: str
    reason: str


class MicroDocument(TypedDict):
    """All of a run."""

    schema: int
    suite: str
    environment: dict[str, Any]
    settings: dict[str, float | int]
    rows: list[MicroRow]
    measured: dict[
        str, list[dict[str, dict[str, float]]]
    ]  # by benchmark and round: subject and figure
    left_out: list[MicroLeftOut]
    warnings: list[str]
    duration_seconds: float


def make_document(
    found: Sequence[Found], budget: Budget, environment: dict[str, Any], seconds: float
) -> MicroDocument:
    """Put everything together."""
    rows = [row_of(each, goal) for each in found for goal in each.benchmark.targets]
    rounds = [row["rounds"] for row in rows if row["against"] and row["rounds"] > 1]
    return {
        "schema": SCHEMA,
        "suite": SUITE,
        "environment": environment,
        "settings": {
            "rounds": budget.rounds,
            "turn_seconds": budget.seconds,
            "seed": budget.seed,
        },
        "rows": rows,
        "measured": {each.benchmark.name: each.rounds for each in found},
        "left_out": [
            {"benchmark": each.benchmark.name, "subject": subject, "reason": reason}
            for each in found
            for subject, reason in each.problems.items()
        ],
        "warnings": reliability_warnings(rounds, environment),
        "duration_seconds": round(seconds, 1),
    }


def row_of(found: Found, goal: Target) -> MicroRow:
    """Return the row of a target, from the rounds that both subjects have."""
    ours, theirs = [], []
    for measured in found.rounds:
        own = measured.get(goal.subject, {}).get(goal.metric)
        other = measured.get(goal.against, {}).get(goal.over or goal.metric)
        if own is not None and (other is not None or not goal.against):
            ours.append(own)
            theirs.append(1.0 if other is None else other)
    row: MicroRow = {
        "benchmark": found.benchmark.name,
        "title": found.benchmark.title,
        "what": goal.what,
        "subject": goal.subject,
        "against": goal.against_what or goal.against,
        "unit": goal.unit,
        "ours": median(ours) if ours else None,
        "theirs": median(theirs) if theirs and goal.against else None,
        "value": None,
        "low": None,
        "high": None,
        "processor": None,
        "target": goal.target,
        "at_least": goal.at_least,
        "met": None,
        "rounds": len(ours),
        "note": None,
    }
    if not ours:
        names = filter(None, (goal.subject, goal.against))
        known = [f"{name}: {found.problems[name]}" for name in names if name in found.problems]
        row["note"] = "; ".join(known) or "not measured"
        return row
    if all(theirs):
        compared = ratio(theirs, ours)
        row["value"], row["low"], row["high"] = compared.value, compared.low, compared.high
        row["processor"] = _processor_ratio(found, goal)
        if goal.target is not None:
            row["met"] = is_met(compared, goal.target, at_least=goal.at_least)
    return row


def is_met(found: Ratio, target: float, *, at_least: bool) -> bool | None:
    """Tell whether a target is met; None if the interval includes it, so that the run cannot tell.

    Args:
        at_least: whether the target is the least, not the most.
    """
    is_above, is_below = found.low >= target, found.high <= target
    if is_above == is_below:
        return True if is_above else None  # on both sides it is the target itself
    return is_above == at_least


def _processor_ratio(found: Found, goal: Target) -> float | None:
    """Return the median ratio of processor time, which other programs hardly change."""
    if not goal.against or goal.over or goal.metric != "seconds":
        return None
    pairs = [
        (measured[goal.subject].get(PROCESSOR), measured[goal.against].get(PROCESSOR))
        for measured in found.rounds
        if goal.subject in measured and goal.against in measured
    ]
    ratios = [ours / theirs for ours, theirs in pairs if ours and theirs]
    return median(ratios) if ratios else None
