"""The report's figures with lines: throughput by threads, and the sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import words
from .charts.lines import Line, lines
from .charts.rows import Text
from .document import LEVELS, by_level
from .markup import figure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .document import Group, Report, Result


def by_threads(report: Report, groups: Sequence[Group], key: str) -> list[str]:
    """Throughput against the number of threads, a figure for each level."""
    results = [each for group in groups for each in group.main if each.threads]
    found = []
    for level, members in by_level(results):
        mine = _by_contender(members)
        series = [
            Line(
                report.title(name),
                report.order.get(name, 0),
                _points(each, lambda one: one.threads, lambda one: one.ops_per_second),
            )
            for name, each in mine.items()
        ]
        if not any(len(each.points) > 1 for each in series):
            continue
        said = [words.scaling(report, name, each) for name, each in mine.items()]
        what = f"{groups[0].database}, {report.workload_title(groups[0].workload)}"
        several = len(by_level(results)) > 1
        where = f", {LEVELS.get(level, level)}" if several else ""
        chart = lines(
            Text(
                f"{key}-{level}",
                f"Throughput by threads: {what}{where}",
                " ".join(said),
                "operations per second",
            ),
            series,
            "threads",
        )
        found.append(
            figure(
                chart,
                f"Throughput by threads{where}",
                "All threads together. A line that stays level has reached what the machine, the "
                "database or the pool's size allows.",
                said[:0],
                ["contender", *(words.threads(group.threads) for group in groups)],
                [
                    [report.title(name), *(_at(each, group.threads) for group in groups)]
                    for name, each in mine.items()
                ],
            )
        )
    return found


def _at(results: Sequence[Result], threads: int | None) -> str:
    found = next((each for each in results if each.threads == threads), None)
    return words.short(found.ops_per_second if found else None)


def iterations(report: Report, results: Sequence[Result], key: str) -> list[str]:
    """The gain against the number of operations."""
    others = [each for each in results if not each.baseline]
    series, said = [], []
    for name, each in _by_contender(others).items():
        points = _points(each, _value, lambda one: one.ratio)
        band = tuple(
            (float(value), one.ratio_low, one.ratio_high)
            for one in each
            if (value := _value(one)) and one.ratio_low and one.ratio_high
        )
        series.append(Line(report.title(name), report.order.get(name, 0), points, band))
        said.append(words.growth(report.title(name), [(int(x), y) for x, y in points]))
    if not any(each.points for each in series):
        return []
    chart = lines(
        Text(key, "The gain by number of operations", " ".join(said), "times the baseline"),
        series,
        "operations",
        log=True,
        reference=1.0,
    )
    return [
        figure(
            chart,
            "The gain by number of operations",
            "Times the baseline's speed, with 95 % intervals as shades, on logarithmic axes. "
            "With a pool, too, the first operation has to open a connection; the others share it.",
            said,
            ["contender", "operations", "times the baseline", "from", "to"],
            [
                [
                    report.title(each.contender),
                    words.count(_value(each)),
                    words.factor(each.ratio),
                    *words.interval(each.ratio_low, each.ratio_high),
                ]
                for each in others
            ],
        )
    ]


def pool_sizes(report: Report, results: Sequence[Result], key: str) -> list[str]:
    """Throughput and p99 against the pool's size, with the knee and the rule of thumb."""
    rule = words.rule_of_thumb(report.cores)
    upright = None if rule is None else (float(rule), f"rule of thumb: {rule}")
    throughput, tail, said = [], [], []
    for name, each in _by_contender(results).items():
        points = _points(each, _value, lambda one: one.ops_per_second)
        found = words.knee([(int(x), y) for x, y in points])
        ring = None if found is None else float(found)
        title, order = report.title(name), report.order.get(name, 0)
        throughput.append(Line(title, order, points, ring=ring))
        p99 = _points(each, _value, lambda one: one.p99_ms)
        tail.append(Line(title, order, p99, ring=ring))
        said.append(words.sizing(title, [(int(x), y) for x, y in points], rule))
    table = [
        [
            report.title(each.contender),
            words.count(_value(each)),
            words.short(each.ops_per_second),
            words.short(each.p99_ms),
        ]
        for each in results
    ]
    header = ["contender", "pool size", "operations/s", "p99 ms"]
    cores = "the machine's cores x 2 + 1 disk"
    figures = []
    if any(each.points for each in throughput):
        chart = lines(
            Text(f"{key}-ops", "Throughput by pool size", " ".join(said), "operations per second"),
            throughput,
            "connections in the pool",
            upright=upright,
        )
        how = "The ring is the knee: no larger pool gains more than 5 % over it."
        how += f" Dashed: the rule of thumb, {cores}." if rule else ""
        figures.append(figure(chart, "Throughput by pool size", how, said, header, table))
    if any(each.points for each in tail):
        chart = lines(
            Text(f"{key}-p99", "p99 by pool size", "The table has the numbers.", "p99, ms"),
            tail,
            "connections in the pool",
            upright=upright,
        )
        how = "The time that 99 of 100 operations stay below; lower is better. Rings as before."
        figures.append(figure(chart, "The slow end by pool size", how, [], header, table))
    return figures


def _by_contender(results: Sequence[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for each in results:
        found.setdefault(each.contender, []).append(each)
    return found


def _value(result: Result) -> int | None:
    return result.sweep[1] if result.sweep else None


def _points(
    results: Sequence[Result],
    across: Callable[[Result], int | None],
    up: Callable[[Result], float | None],
) -> tuple[tuple[float, float], ...]:
    pairs = ((across(each), up(each)) for each in results)
    return tuple(sorted((float(x), y) for x, y in pairs if x and x > 0 and y and y > 0))
