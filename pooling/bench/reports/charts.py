"""Charts: ratios with their intervals, a row for each result; of a sweep, a curve for each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pooling.bench.results import ratio_of
from pooling.formatting import factor

from . import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pooling.bench.results import Document, Result

LEFT, RIGHT, TOP, ROW = 10.0, 390.0, 24, 38
MARKS = ((1, 1.2, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,))
COLOURS = 6

RATIOS = "Times the baseline's operations per second, with 95 % intervals"
CURVES = {
    "iterations": "Times the baseline, with intervals, by operations with the same connections",
    "pool-size": "Operations per second, by the size of the pool",
    "rate": "p99 in milliseconds, from the moment a request was due, by requests per second",
}


class Row(NamedTuple):
    """One result, or the heading of a section.

    Attributes:
        y: where it is, from above.
        x: where its dot is; None for a heading.
        left, right: the ends of its interval.
        kind: `baseline`, `unclear` (a tie with the baseline) or "".
    """

    name: str
    y: int
    text: str = ""
    x: float | None = None
    left: float = 0.0
    right: float = 0.0
    kind: str = ""


class Curve(NamedTuple):
    """One contender's results of a sweep: dots with intervals, and where its name is."""

    name: str
    y: int
    colour: int
    line: str
    dots: list[tuple[float, float, float, float]]


class Chart(NamedTuple):
    """What the template `chart.svg` draws: rows on a horizontal axis, or curves on two."""

    title: str
    rows: list[Row]
    curves: list[Curve]
    ticks: list[tuple[float, str]]
    heights: list[tuple[float, str]]
    reference: float | None
    bottom: float


def chart(document: Document, table: layout.Table) -> Chart | None:
    """Return a table's chart; None if it has nothing to show."""
    if table.sweep:
        return curves(document, table)
    sections = table.main()
    results = [each for section in sections for each in section.results]
    ratios = [found for each in results if (found := ratio_of(each))]
    if all(each["baseline"] or not each["ratio"] for each in results):
        return None
    known = [end for each in ratios for end in each if end]
    across = scale([*known, 1.0], LEFT, RIGHT)
    names = layout.titles(document)
    rows: list[Row] = []
    for section in sections:
        if len(sections) > 1:
            rows.append(Row(section.label, TOP + ROW * len(rows)))
        for each in section.results:
            if not (found := ratio_of(each)):
                continue
            kind = "baseline" if each["baseline"] else "unclear" if found.is_tie else ""
            errors = f", {each['errors']:,} errors" if each["errors"] else ""
            place = across(found.value), across(found.low), across(found.high)
            name, y = names[each["contender"]], TOP + ROW * len(rows)
            rows.append(Row(name, y, layout.ratio(each) + errors, *place, kind))
    ticks = [(across(mark), factor(mark)) for mark in marks(min(known), max(known))]
    return Chart(RATIOS, rows, [], ticks, [], across(1.0), TOP + ROW * len(rows))


def curves(document: Document, table: layout.Table) -> Chart | None:
    """Return a chart of a sweep: what it measures, by the value that varies."""
    together: dict[str, list[tuple[float, float, float, float]]] = {}
    names = layout.titles(document)
    for each in (result for section in table.main() for result in section.results):
        value, low, high = _swept(each, table.sweep)
        if value and each["sweep"]:
            point = each["sweep"]["value"], value, low or value, high or value
            together.setdefault(names[each["contender"]], []).append(point)
    if not together:
        return None
    points = [point for each in together.values() for point in each]
    across = scale([point[0] for point in points], LEFT + 36, RIGHT)
    top = TOP + 16 * len(together)
    up = scale([end for point in points for end in point[1:]], top + 200.0, top + 10.0)
    drawn = []
    for number, (name, found) in enumerate(together.items()):
        dots = [(across(x), up(y), up(low), up(high)) for x, y, low, high in sorted(found)]
        line = " ".join(f"{x},{y}" for x, y, _low, _high in dots)
        drawn.append(Curve(name, TOP + 16 * number, number % COLOURS + 1, line, dots))
    values = [point[1] for point in points]
    ticks = [(across(x), f"{x:,}") for x in sorted({point[0] for point in points})]
    ticks = ticks[:: math.ceil(len(ticks) / 8)]
    heights = [(up(mark), factor(mark)) for mark in marks(min(values), max(values))]
    return Chart(CURVES[table.sweep], [], drawn, ticks, heights, None, top + 210.0)


def _swept(each: Result, sweep: str) -> tuple[float | None, float | None, float | None]:
    if sweep == "iterations":
        return each["ratio"], each["ratio_low"], each["ratio_high"]
    known = [rate for rate in each["rounds_ops_per_second"] if rate]
    if sweep == "pool-size":
        return each["ops_per_second"], min(known, default=None), max(known, default=None)
    return each["p99_ms"], None, None


def scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    """Return what turns a number into a coordinate, logarithmically."""
    low, high = math.log(min(values) / 1.1), math.log(max(values) * 1.1)
    return lambda value: round(start + (math.log(value) - low) / (high - low) * (end - start), 1)


def marks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` round numbers within an axis, the denser the shorter it is."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside: list[float] = []
    for within in MARKS:
        found = [mark * 10.0**power for power in decades for mark in within]
        inside = [mark for mark in found if low <= mark <= high]
        if len(inside) <= most:
            break
    return inside[:: math.ceil(len(inside) / most) or 1]
