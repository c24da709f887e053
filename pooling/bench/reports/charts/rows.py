"""Charts with a row for each thing: bars, dots with intervals, distributions.

They share their rows' heights, so that charts of the same things line up beside each other.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import scales, svg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TOP = 20.0
ROW = 40.0
HEADING = 24.0
AXIS = 22.0
LEFT, RIGHT = 6.0, svg.WIDTH - 10.0


@dataclass(frozen=True, slots=True)
class Point:
    """A dot with its interval, if that is known.

    Attributes:
        hollow: drawn without filling.
        shift: how far it is moved down, to leave room for others.
        hue: its colour, if that tells it from others in its row.
    """

    value: float
    low: float | None = None
    high: float | None = None
    shape: int = 0
    hollow: bool = False
    shift: float = 0.0
    hue: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row: what it is called, what is written at its right, and what is drawn.

    Attributes:
        alarm: written after the name, in the colour for trouble.
        quiet: drawn in grey, for what others are compared with.
        bar: the length of a bar.
        points: dots with intervals; on a bar, the single rounds.
        curve: a histogram: upper bounds and counts.
        marks: a distribution's median and tail.
    """

    name: str
    value: str = ""
    alarm: str = ""
    quiet: bool = False
    bar: float | None = None
    points: tuple[Point, ...] = ()
    curve: tuple[tuple[float, int], ...] = ()
    marks: tuple[float | None, ...] = ()


Section = tuple[str, "Sequence[Row]"]


@dataclass(frozen=True, slots=True)
class Text:
    """A chart's words: its key on the page, title and description, and what its axis means."""

    key: str
    title: str
    description: str
    axis: str


def bars(
    words: Text,
    sections: Sequence[Section],
    *,
    top: float | None = None,
    reference: float | None = None,
    style: str = "",
) -> str:
    """Draw bars from 0, with the rounds as dots and a dashed line at `reference`."""
    rows = _all(sections)
    values = [each.bar or 0.0 for each in rows]
    values += [point.value for each in rows for point in each.points]
    scale = scales.linear(values, LEFT, RIGHT)
    if top is not None:
        scale = scales.Scale(0.0, top, LEFT, RIGHT)

    def draw(row: Row, y: float) -> list[str]:
        found = []
        if row.bar is not None:
            found.append(
                svg.element(
                    "rect",
                    x=LEFT,
                    y=y + 18,
                    width=max(1.0, scale(row.bar) - LEFT),
                    height=14,
                    rx=2,
                    class_="bar quiet" if row.quiet else "bar",
                )
            )
        return found + [
            svg.element("circle", cx=scale(point.value), cy=y + 25, r=1.6, class_="round")
            for point in row.points
        ]

    return _chart(words, sections, scale, draw, reference, style)


def dots(words: Text, sections: Sequence[Section], *, keys: Sequence[str] = ()) -> str:
    """Draw ratios on a logarithmic axis, with their intervals and a line at 1."""
    points = [point for each in _all(sections) for point in each.points]
    ends = [end for each in points for end in (each.low, each.value, each.high)]
    scale = scales.logarithmic([1.0, *(end for end in ends if end)], LEFT + 6, RIGHT - 6)

    def draw(row: Row, y: float) -> list[str]:
        found = []
        for point in row.points:
            middle = y + 25 + point.shift
            if point.low and point.high:
                left, right = scale(point.low), scale(point.high)
                found.append(svg.line(left, middle, right, middle, "whisker"))
                found += [svg.line(x, middle - 4, x, middle + 4, "whisker") for x in (left, right)]
            kind = "dot hollow" if point.hollow else "dot quiet" if row.quiet else "dot"
            if point.hue is not None:
                kind = f"point hue{point.hue % svg.HUES}"
            found.append(svg.marker(point.shape, scale(point.value), middle, kind))
        return found

    return _chart(words, sections, scale, draw, 1.0, "", keys)


def distributions(words: Text, sections: Sequence[Section]) -> str:
    """Draw each histogram as a hill on a logarithmic axis, with p50, p95 and p99 marked."""
    rows = _all(sections)
    values = [mark for each in rows for mark in each.marks if mark]
    values += [upper for each in rows for upper, count in each.curve if count]
    scale = scales.logarithmic(values, LEFT, RIGHT)

    def draw(row: Row, y: float) -> list[str]:
        ground = y + 36
        found = [svg.line(LEFT, ground, RIGHT, ground, "ground")]
        outline = hill(row.curve, scale, ground, 17.0)
        if outline:
            found.append(svg.path(outline, "hill quiet" if row.quiet else "hill", closed=True))
        for mark, kind in zip(row.marks, ("p50", "p95", "p99"), strict=False):
            if mark:
                x = scale(mark)
                found.append(svg.line(x, ground - (17 if kind == "p50" else 10), x, ground, kind))
                if kind == "p99":
                    found.append(svg.marker(3, x, ground - 10, "mark", 3.2))
        return found

    return _chart(words, sections, scale, draw, None, "")


def hill(
    histogram: Sequence[tuple[float, int]], scale: scales.Scale, ground: float, height: float
) -> list[tuple[float, float]]:
    """Return a histogram's outline: each bin's area is its share, on the logarithmic axis.

    A bin begins where the one before it ends. Empty bins may be missing, so a bin after a gap
    begins as far below its upper bound as the narrowest bin is wide.
    """
    found = [(upper, count) for upper, count in histogram if count > 0 and upper > 0]
    if not found:
        return []
    uppers = [upper for upper, _count in histogram if upper > 0]
    steps = [after / before for before, after in itertools.pairwise(uppers)]
    step = min((each for each in steps if each > 1.0001), default=1.25)
    lowers = [
        max(upper / (step * 1.01), max((each for each in uppers if each < upper), default=0.0))
        for upper, _count in found
    ]
    spans = [
        (scale(low), scale(upper), count) for low, (upper, count) in zip(lowers, found, strict=True)
    ]
    densities = [count / max(right - left, 0.5) for left, right, count in spans]
    highest = max(densities)
    points = [(spans[0][0], ground)]
    for (left, right, _count), density in zip(spans, densities, strict=True):
        if left - points[-1][0] > 0.5:
            points += [(points[-1][0], ground), (left, ground)]
        top = ground - height * density / highest
        points += [(left, top), (right, top)]
    return [*points, (points[-1][0], ground)]


def _all(sections: Sequence[Section]) -> list[Row]:
    return [row for _heading, rows in sections for row in rows]


def _chart(
    words: Text,
    sections: Sequence[Section],
    scale: scales.Scale,
    draw: Callable[[Row, float], list[str]],
    reference: float | None,
    style: str,
    keys: Sequence[str] = (),
) -> str:
    body, y = [svg.text(LEFT, 12, svg.crop(words.axis, svg.WIDTH, 11), "axis-title")], TOP
    x = LEFT
    for shape, key in enumerate(keys):
        body.append(svg.marker(shape, x + 5, TOP + 8, f"point hue{(shape + 1) % svg.HUES}"))
        body.append(svg.text(x + 13, TOP + 12, key, "tick"))
        x += 26 + 6.2 * len(key)
    y += 18 if keys else 0
    begin, drawn = y, []
    for heading, rows in sections:
        if heading:
            drawn.append(svg.text(LEFT, y + 17, heading, "heading"))
            y += HEADING
        for row in rows:
            room = RIGHT - LEFT - 6.6 * (len(row.value) + len(row.alarm))
            name = svg.quote(svg.crop(row.name, room))
            if row.alarm:
                name += svg.element("tspan", svg.quote(f"  {row.alarm}"), class_="alarm")
            drawn.append(svg.element("text", name, x=LEFT, y=y + 13, class_="name"))
            drawn.append(svg.text(RIGHT, y + 13, row.value, "value"))
            if reference is not None:  # not through the names
                x = scale(reference)
                drawn.append(svg.line(x, y + 17, x, y + 37, "reference"))
            drawn += draw(row, y)
            y += ROW
    for tick in scale.ticks():
        x = scale(tick)
        body.append(svg.line(x, begin, x, y, "grid"))
        anchor = "start" if x < LEFT + 8 else "end" if x > RIGHT - 8 else "middle"
        body.append(svg.text(x, y + 14, scales.label(tick), "tick", text_anchor=anchor))
    return svg.frame(
        words.key, words.title, words.description, y + AXIS, [*body, *drawn], style=style
    )
