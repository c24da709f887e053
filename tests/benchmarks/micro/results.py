"""From what the subjects measured to the rows of the result document."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, TypedDict

from pooling.bench.results import SCHEMA
from pooling.bench.statistics import ENOUGH_ROUNDS, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pooling.bench.results import Environment

    from .benchmark import Target
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
    met: bool | None  # None if there is no target, or nothing was measured
    rounds: int
    note: str | None  # why there is no figure


class MicroLeftOut(TypedDict):
    """Somebody who did not take part in a benchmark, or not to the end."""

    benchmark: str
    subject: str
    reason: str


class MicroDocument(TypedDict):
    """All of a run."""

    schema: int
    suite: str
    environment: Environment
    settings: dict[str, float | int]
    rows: list[MicroRow]
    measured: dict[str, list[dict[str, dict[str, float]]]]  # by benchmark and round: subject and figure
    left_out: list[MicroLeftOut]
    warnings: list[str]
    duration_seconds: float


def make_document(
    found: Sequence[Found], amount: Budget, environment: Environment, seconds: float
) -> MicroDocument:
    """Put everything together."""
    rows = [row_of(each, target_, amount.seed) for each in found for target_ in each.benchmark.targets]
    return {
        "schema": SCHEMA,
        "suite": SUITE,
        "environment": environment,
        "settings": {
            "rounds": amount.rounds,
            "turn_seconds": amount.seconds,
            "seed": amount.seed,
        },
        "rows": rows,
        "measured": {each.benchmark.name: each.rounds for each in found},
        "left_out": [
            {"benchmark": each.benchmark.name, "subject": subject, "reason": reason}
            for each in found
            for subject, reason in each.problems.items()
        ],
        "warnings": warnings(rows, environment),
        "duration_seconds": round(seconds, 1),
    }


def row_of(found: Found, target_: Target, seed: int) -> MicroRow:
    """Return what a benchmark says about one of its targets, from the rounds that both subjects have."""
    ours, theirs = [], []
    for measured in found.rounds:
        own = measured.get(target_.subject, {}).get(target_.metric)
        other = measured.get(target_.against, {}).get(target_.over or target_.metric)
        if own is not None and (other is not None or not target_.against):
            ours.append(own)
            theirs.append(1.0 if other is None else other)
    row: MicroRow = {
        "benchmark": found.benchmark.name,
        "title": found.benchmark.title,
        "what": target_.what,
        "subject": target_.subject,
        "against": target_.against_what or target_.against,
        "unit": target_.unit,
        "ours": median(ours) if ours else None,
        "theirs": median(theirs) if theirs and target_.against else None,
        "value": None,
        "low": None,
        "high": None,
        "processor": None,
        "target": target_.target,
        "at_least": target_.at_least,
        "met": None,
        "rounds": len(ours),
        "note": None,
    }
    if not ours:
        names = filter(None, (target_.subject, target_.against))
        known = [f"{name}: {found.problems[name]}" for name in names if name in found.problems]
        row["note"] = "; ".join(known) or "not measured"
        return row
    if all(theirs):
        compared = ratio(theirs, ours, seed=seed)
        row["value"], row["low"], row["high"] = compared.value, compared.low, compared.high
        row["processor"] = _processor_ratio(found, target_)
        if target_.target is not None:
            better = compared.value >= target_.target
            row["met"] = better if target_.at_least else compared.value <= target_.target
    return row


def _processor_ratio(found: Found, target_: Target) -> float | None:
    """Return the median ratio of processor time, which other programs hardly change."""
    if not target_.against or target_.over or target_.metric != "seconds":
        return None
    pairs = [
        (measured[target_.subject].get(PROCESSOR), measured[target_.against].get(PROCESSOR))
        for measured in found.rounds
        if target_.subject in measured and target_.against in measured
    ]
    ratios = [ours / theirs for ours, theirs in pairs if ours and theirs]
    return median(ratios) if ratios else None


def warnings(rows: Sequence[MicroRow], environment: Environment) -> list[str]:
    """Say what makes the figures less reliable than they look."""
    found = []
    load, cores = environment["load_average"], environment["cores"]
    if load and load[0] > cores / 2:
        found.append(f"the machine was busy before the run: a load of {load[0]:g} on {cores} cores")
    few = [row["rounds"] for row in rows if row["against"] and 1 < row["rounds"] < ENOUGH_ROUNDS]
    if few:
        found.append(
            f"with fewer than {ENOUGH_ROUNDS} rounds (here {min(few)}) the intervals are too narrow"
        )
    unclear = [
        ", ".join(filter(None, (row["title"], row["what"], row["subject"])))
        + (f" against {row['against']}" if row["against"] else "")
        for row in rows
        if None not in (row["low"], row["high"], row["target"])
        and (row["low"] or 0.0) <= (row["target"] or 0.0) <= (row["high"] or 0.0)
        and row["low"] != row["high"]
    ]
    found += [f"the noise is larger than the distance from the target: {each}" for each in unclear]
    return found
