"""The one kind of chart: a row for each result, a dot and its interval on a logarithmic axis."""

from __future__ import annotations

import math
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from pooling.bench.results import is_clear
from pooling.formatting import factor, number

from . import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pooling.bench.results import Document, Result

LEFT, RIGHT, TOP, ROW = 10.0, 390.0, 24, 38
MARKS = ((1, 1.2, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,))

Interval = tuple[float | None, float | None, float | None]


class Row(NamedTuple):
    """One result, or the heading of a section.

    Attributes:
        y: where it is, from above.
        x: where its dot is; None for a heading.
        left, right: the ends of its interval.
        kind: `baseline`, `unclear` (its interval holds 1) or "".
    """

    name: str
    y: int
    text: str = ""
    x: float | None = None
    left: float = 0.0
    right: float = 0.0
    kind: str = ""


class Chart(NamedTuple):
    """What the template `chart.svg` draws."""

    title: str
    rows: list[Row]
    ticks: list[tuple[float, str]]
    reference: float | None
    bottom: int


def _range(each: Result) -> Interval:
    rounds = each["rounds_ops_per_second"]
    return each["ops_per_second"], min(rounds, default=None), max(rounds, default=None)


METRICS: dict[str, Callable[[Result], Interval]] = {
    "Times the baseline, with 95 % intervals": itemgetter("ratio", "ratio_low", "ratio_high"),
    "Operations per second: the median of the rounds, and their range": _range,
    "Milliseconds of an operation: p50, and up to p99": itemgetter("p50_ms", "p50_ms", "p99_ms"),
}
"""What is drawn of each table. The first one has a line at 1."""


def charts(document: Document, table: layout.Table) -> list[Chart]:
    """Return the charts of a table, without those that have nothing to show."""
    found = [chart(document, table.main(), title) for title in METRICS]
    return [each for each in found if each is not None]


def chart(document: Document, sections: Sequence[layout.Section], title: str) -> Chart | None:
    """Return one of `METRICS` as a chart; None if it has nothing to show."""
    measure, titles = METRICS[title], layout.titles(document)
    is_ratio = title == next(iter(METRICS))
    values = [end for section in sections for each in section.results for end in measure(each)]
    known = [value for value in values if value]
    if is_ratio and all(each["baseline"] for section in sections for each in section.results):
        known = []
    if not known:
        return None
    across = scale([*known, 1.0] if is_ratio else known)
    rows: list[Row] = []
    for section in sections:
        if len(sections) > 1:
            rows.append(Row(section.label, TOP + ROW * len(rows)))
        for each in sorted(section.results, key=lambda each: -(each["ops_per_second"] or 0)):
            value, low, high = measure(each)
            name, y = titles[each["contender"]], TOP + ROW * len(rows)
            if not value:
                continue
            kind = "baseline" if each["baseline"] else ""
            if is_ratio and not kind and is_clear(each) is False:
                kind = "unclear"
            text = layout.ratio(each) if is_ratio else number(value)
            ends = across(low or value), across(high or value)
            rows.append(Row(name, y, text, across(value), *ends, kind))
    ticks = [(across(mark), factor(mark)) for mark in marks(min(known), max(known))]
    bottom = TOP + ROW * len(rows)
    return Chart(title, rows, ticks, across(1.0) if is_ratio else None, bottom)


def scale(values: Sequence[float]) -> Callable[[float], float]:
    """Return what turns a number into a coordinate, logarithmically."""
    low, high = math.log(min(values) / 1.1), math.log(max(values) * 1.1)
    return lambda value: round(LEFT + (math.log(value) - low) / (high - low) * (RIGHT - LEFT), 1)


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
