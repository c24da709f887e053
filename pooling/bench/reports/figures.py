"""The report's figures: from results to a chart, its explanation and its table.

A figure without anything to show is an empty text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import words
from .charts.rows import Point, Row, Text, bars, distributions, dots
from .document import LEVELS, TOTAL, baseline_of, by_level
from .markup import figure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .charts.rows import Section
    from .document import Group, Report, Result


def sections(
    results: Sequence[Result], row: Callable[[Result], Row], keep: Callable[[Result], bool]
) -> list[Section]:
    """Return rows by level, the most operations per second first, for charts that stand beside each
    other."""
    levels = by_level(results)
    found: list[Section] = []
    for level, members in levels:
        ordered = sorted(members, key=lambda each: -(each.ops_per_second or 0))
        rows = [row(each) for each in ordered if keep(each)]
        if rows:
            found.append((words.capital(LEVELS.get(level, level)) if len(levels) > 1 else "", rows))
    return found


def _by_level(results: Sequence[Result], say: Callable[[Sequence[Result]], str]) -> list[str]:
    """Return what there is to say of each level, which it is said of if there are several."""
    levels = by_level(results)
    told = [(level, say(members)) for level, members in levels]
    if len(levels) == 1:
        return [said for _level, said in told if said]
    return [f"{words.capital(LEVELS.get(level, level))}: {said}" for level, said in told if said]


def alarm(each: Result) -> str:
    return f"{each.errors:,} failed" if each.errors else ""


def throughput(report: Report, group: Group, key: str) -> str:
    """Operations per second, as bars."""
    results = group.main
    if not any(each.ops_per_second for each in results):
        return ""

    def row(each: Result) -> Row:
        return Row(
            report.title(each.contender),
            words.short(each.ops_per_second),
            alarm(each),
            each.baseline,
            bar=each.ops_per_second,
            points=tuple(Point(value) for value in each.rounds_ops_per_second),
        )

    said = _by_level(results, lambda members: words.fastest(report, members))
    chart = bars(
        Text(key, f"Throughput: {place(report, group)}", " ".join(said), "operations per second"),
        sections(results, row, lambda _each: True),
    )
    rounds = any(each.rounds_ops_per_second for each in results)
    return figure(
        chart,
        "Throughput",
        "Longer is better; grey is the baseline."
        + (" Each small dot is one round." if rounds else ""),
        said,
        ["contender", "operations/s", "connections opened", "at once", "errors"],
        [
            [
                report.title(each.contender),
                words.short(each.ops_per_second),
                words.count(each.connections_opened),
                words.count(each.peak_connections),
                words.count(each.errors),
            ]
            for each in results
        ],
    )


def ratios(report: Report, group: Group, key: str) -> str:
    """Ratios with their intervals."""
    results = group.main
    if not any(each.ratio and not each.baseline for each in results):
        return ""

    def row(each: Result) -> Row:
        return Row(
            report.title(each.contender),
            words.ratio(each),
            quiet=each.baseline,
            points=() if each.ratio is None else (_point(each),),
        )

    unclear = [each for each in results if each.has_interval and not each.baseline]
    unclear = [each for each in unclear if not each.is_clear]
    said = "For each of the others, the interval lies on one side of 1."
    if unclear:
        listed = ", ".join(report.title(each.contender) for each in unclear)
        said = f"Not to be told apart from the baseline: {listed}."
    chart = dots(
        Text(
            key,
            f"Compared with the baseline: {place(report, group)}",
            " ".join(words.findings(report, results)),
            "times the baseline, logarithmic axis",
        ),
        sections(results, row, lambda _each: True),
    )
    names = {
        report.title(base.contender)
        for each in results
        if (base := baseline_of(each, results)) is not None
    }
    return figure(
        chart,
        f"Times {min(names) if len(names) == 1 else 'the baseline'}",
        "Right of the dashed line is faster. The line through a dot is its 95 % interval; hollow "
        "dots may be no difference at all.",
        [said],
        ["contender", "times the baseline", "from", "to", "rounds"],
        [
            [
                report.title(each.contender),
                words.factor(each.ratio),
                *words.interval(each.ratio_low, each.ratio_high),
                words.count(each.rounds),
            ]
            for each in results
        ],
    )


def _point(each: Result, shape: int = 0) -> Point:
    if each.baseline:
        return Point(1.0, shape=shape)
    hollow = each.has_interval and not each.is_clear
    return Point(each.ratio or 1.0, each.ratio_low, each.ratio_high, shape, hollow)


def latency(report: Report, group: Group, key: str) -> str:
    """How the times of single operations are spread."""
    results = group.main
    if not any(each.histogram or each.p50_ms for each in results):
        return ""

    def row(each: Result) -> Row:
        return Row(
            report.title(each.contender),
            f"{words.short(each.p50_ms)} · {words.short(each.p99_ms)}",
            quiet=each.baseline,
            curve=each.histogram,
            marks=(each.p50_ms, each.p95_ms, each.p99_ms),
        )

    said = _by_level(results, lambda members: words.latency(report, members))
    chart = distributions(
        Text(
            key,
            f"Times of single operations: {place(report, group)}",
            " ".join(said),
            "milliseconds, logarithmic axis · at the right: p50 · p99",
        ),
        sections(results, row, lambda _each: True),
    )
    return figure(
        chart,
        "Time of one operation",
        "Further left is better, and a narrow hill is an even one. Thick line: half were faster "
        "(p50); thin: 95 of 100 (p95); diamond: 99 of 100 (p99).",
        said,
        ["contender", "p50 ms", "p95 ms", "p99 ms", "max ms", "operations"],
        [
            [
                report.title(each.contender),
                *map(words.short, (each.p50_ms, each.p95_ms, each.p99_ms, each.max_ms)),
                words.count(each.operations),
            ]
            for each in results
        ],
    )


def fairness(report: Report, group: Group, key: str) -> str:
    """How evenly the threads got their turns."""
    results = group.main
    many = group.threads or 0
    if many < 2 or not any(each.fairness is not None for each in results):
        return ""

    def row(each: Result) -> Row:
        value = words.UNKNOWN if each.fairness is None else f"{each.fairness:.2f}"
        return Row(report.title(each.contender), value, bar=each.fairness, quiet=each.baseline)

    said = words.fairness(report, results)
    chart = bars(
        Text(key, f"Fairness: {place(report, group)}", said, "Jain's index"),
        sections(results, row, lambda each: each.fairness is not None),
        top=1.0,
        reference=1 / many,
    )
    return figure(
        chart,
        f"Fairness among {words.threads(group.threads)}",
        "Jain's index: at 1 all threads did the same number of operations; at the dashed line, "
        f"1/{many}, one of them did everything.",
        [said],
        ["contender", "Jain's index"],
        [
            [report.title(each.contender), words.short(each.fairness)]
            for each in results
            if each.fairness is not None
        ],
    )


def waits(report: Report, group: Group, key: str) -> str:
    """Which part of the time went into getting a connection."""
    results = [each for each in group.main if each.wait_share is not None]
    if not results:
        return ""

    def row(each: Result) -> Row:
        share = (each.wait_share or 0) * 100
        return Row(report.title(each.contender), f"{share:.1f} %", bar=share, quiet=each.baseline)

    most = max(results, key=lambda each: each.wait_share or 0)
    least = min(results, key=lambda each: each.wait_share or 0)
    said = (
        f"About {(most.wait_share or 0) * 100:.0f} % with all of them."
        if (most.wait_share or 0) - (least.wait_share or 0) < 0.01
        else f"From {(least.wait_share or 0) * 100:.1f} % ({report.title(least.contender)}) to "
        f"{(most.wait_share or 0) * 100:.1f} % ({report.title(most.contender)})."
    )
    chart = bars(
        Text(key, f"Waiting for a connection: {place(report, group)}", said, "% of the time"),
        sections(results, row, lambda _each: True),
        top=100.0,
    )
    return figure(
        chart,
        f"Share of waiting, {words.threads(group.threads)}",
        "The part of an operation's time until it had a connection: opening one, or queueing for "
        "one. Shorter is better.",
        [said],
        ["contender", "% waiting"],
        [[report.title(each.contender), f"{(each.wait_share or 0) * 100:.1f}"] for each in results],
    )


def operations(report: Report, group: Group, key: str) -> str:
    """Which operation gains how much."""
    names = [name for name in group.operations if name != TOTAL]
    if len(names) < 2:
        return ""
    known = {(each.contender, each.operation): each for each in group.results}
    others = [each for each in group.main if not each.baseline and each.ratio]

    def row(each: Result) -> Row:
        found = [known.get((each.contender, name)) for name in names]
        points = [
            Point(other.ratio, shape=shape, shift=4.5 * shape - 4, hue=shape + 1)
            for shape, other in enumerate(found)
            if other is not None and other.ratio is not None
        ]
        return Row(report.title(each.contender), points=tuple(points))

    if not others:
        return ""
    chart = dots(
        Text(
            key,
            f"By operation: {place(report, group)}",
            f"The ratios of {', '.join(names)} for each contender; the table has the numbers.",
            "times the baseline, logarithmic axis",
        ),
        sections(others, row, lambda _each: True),
        keys=names,
    )
    return figure(
        chart,
        f"By operation, {words.threads(group.threads)}",
        "How many times as fast as the baseline each operation is. "
        "Right of the dashed line is faster.",
        [],
        ["contender", *names],
        [
            [
                report.title(each.contender),
                *(
                    words.factor(found.ratio) if found else words.UNKNOWN
                    for found in (known.get((each.contender, name)) for name in names)
                ),
            ]
            for each in others
        ],
    )


def place(report: Report, group: Group) -> str:
    workload = report.workload_title(group.workload)
    return f"{group.database}, {workload}, {words.threads(group.threads)}"
