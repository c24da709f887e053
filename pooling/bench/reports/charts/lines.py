"""Charts with lines: how something changes along an axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import scales, svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .rows import Text

LEFT, RIGHT, TOP, HEIGHT = 40.0, svg.WIDTH - 14.0, 30.0, 190.0
LEGEND_ROW = 18.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        style: picks colour, dashes and marker; the same thing has the same everywhere.
        points: from left to right.
        band: lower and upper ends of the points' intervals, where they are known.
        ring: the x of the point to put a ring around.
    """

    name: str
    style: int
    points: tuple[tuple[float, float], ...]
    band: tuple[tuple[float, float, float], ...] = ()
    ring: float | None = None


def lines(
    words: Text,
    series: Sequence[Line],
    x_title: str,
    *,
    log: bool = False,
    reference: float | None = None,
    upright: tuple[float, str] | None = None,
) -> str:
    """Draw lines over a logarithmic x axis.

    Args:
        log: whether the y axis is logarithmic too; otherwise it begins at 0.
        reference: where to draw a dashed line across.
        upright: where to draw a dashed line upwards, and what to write beside it.
    """
    known = [each for each in series if each.points]
    xs = sorted({x for each in known for x, _y in each.points})
    ys = [y for each in known for _x, y in each.points]
    ys += [end for each in known for _x, *ends in each.band for end in ends]
    bottom = TOP + HEIGHT
    wide = [*xs, upright[0]] if upright else xs
    across = scales.logarithmic(wide, LEFT + 8, RIGHT - 8, 1.0)
    if log:
        up = scales.logarithmic([*ys, reference or ys[0]] if ys else [1.0], bottom, TOP)
    else:
        up = scales.linear(ys, bottom, TOP)
    body = [svg.text(2, 11, words.axis, "axis-title")]
    for tick in up.ticks(6):
        body.append(svg.line(LEFT, up(tick), RIGHT, up(tick), "grid"))
        body.append(svg.text(LEFT - 5, up(tick) + 4, scales.label(tick), "tick", text_anchor="end"))
    latest = -100.0
    for x in xs:
        place = across(x)
        body.append(svg.line(place, bottom, place, bottom + 4, "ground"))
        if place - latest >= 9 + 6 * len(scales.label(x)):
            body.append(svg.text(place, bottom + 16, scales.label(x), "tick", text_anchor="middle"))
            latest = place
    body.append(svg.text(RIGHT, bottom + 32, x_title, "axis-title", text_anchor="end"))
    body.append(svg.line(LEFT, bottom, RIGHT, bottom, "ground"))
    if reference is not None and up.low <= reference <= up.high:
        body.append(svg.line(LEFT, up(reference), RIGHT, up(reference), "reference"))
    if upright is not None:
        place = across(upright[0])
        body.append(svg.line(place, TOP, place, bottom, "reference"))
        anchor = "end" if place > RIGHT - 60 else "start" if place < LEFT + 60 else "middle"
        body.append(svg.text(place, TOP - 8, upright[1], "tick", text_anchor=anchor))
    for each in known:
        body += _line(each, across, up)
    y = bottom + 50
    for each in sorted(known, key=lambda line: -line.points[-1][1]):
        body += _sample(each.style, 6, y - 4)
        body.append(svg.text(40, y, svg.crop(each.name, RIGHT - 40), "name"))
        y += LEGEND_ROW
    return svg.frame(words.key, words.title, words.description, y - 4, body)


def _line(each: Line, across: scales.Scale, up: scales.Scale) -> list[str]:
    hue = f"hue{each.style % svg.HUES}"
    body = []
    if len(each.band) > 1:
        edge = [(across(x), up(high)) for x, _low, high in each.band]
        edge += [(across(x), up(low)) for x, low, _high in reversed(each.band)]
        body.append(svg.path(edge, f"band {hue}", closed=True))
    places = [(across(x), up(y)) for x, y in each.points]
    body.append(_stroke(each.style, places))
    body += [svg.marker(each.style, x, y, f"point {hue}") for x, y in places]
    for (x, _y), place in zip(each.points, places, strict=True):
        if x == each.ring:
            ring = svg.element("circle", cx=place[0], cy=place[1], r=9.0, class_=f"ring {hue}")
            body.append(ring)
    return body


def _stroke(style: int, places: Sequence[tuple[float, float]]) -> str:
    dashes = svg.DASHES[style % len(svg.DASHES)] or None
    return svg.path(places, f"line hue{style % svg.HUES}", stroke_dasharray=dashes)


def _sample(style: int, x: float, y: float) -> list[str]:
    hue = f"point hue{style % svg.HUES}"
    return [_stroke(style, [(x, y), (x + 26, y)]), svg.marker(style, x + 13, y, hue)]
