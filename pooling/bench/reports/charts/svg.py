"""SVG as text: elements, their escaping, and the frame that every chart has."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH = 400
# XML 1.0 has no way to write these.
FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "down")
DASHES = ("", "6 3", "2 3", "8 3 2 3")
HUES = 7


def element(tag: str, *children: str, **attributes: object) -> str:
    """Return an element; attributes are escaped, children are not. `class_` means class."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{quote(_round(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    inside = "".join(children)
    return f"<{tag}{written}>{inside}</{tag}>" if inside else f"<{tag}{written}/>"


def quote(value: object) -> str:
    """Return a text for use inside an element or an attribute."""
    return escape(FORBIDDEN.sub(" ", str(value)))


def _round(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def text(x: float, y: float, content: str, class_: str = "", **attributes: object) -> str:
    return element(
        "text", quote(content), x=float(x), y=float(y), class_=class_ or None, **attributes
    )


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def path(
    points: Iterable[tuple[float, float]], class_: str, *, closed: bool = False, **rest: object
) -> str:
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return element("path", d=f"M{steps}{'Z' if closed else ''}", class_=class_, **rest)


def marker(shape: int, x: float, y: float, class_: str, size: float = 4.0) -> str:
    """Draw one of `SHAPES` around a point, so that colour is never the only difference."""
    name = SHAPES[shape % len(SHAPES)]
    if name == "circle":
        return element("circle", cx=float(x), cy=float(y), r=size, class_=class_)
    if name == "square":
        side = size * 0.9
        return element(
            "rect", x=x - side, y=y - side, width=2 * side, height=2 * side, class_=class_
        )
    corners = {
        "triangle": ((0, -1.2), (1.1, 0.9), (-1.1, 0.9)),
        "down": ((0, 1.2), (1.1, -0.9), (-1.1, -0.9)),
        "diamond": ((0, -1.3), (1.1, 0), (0, 1.3), (-1.1, 0)),
        "cross": (
            *((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4)),
            *((0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)),
        ),
    }[name]
    return path(((x + dx * size, y + dy * size) for dx, dy in corners), class_, closed=True)


def frame(
    key: str,
    title: str,
    description: str,
    height: float,
    body: Iterable[str],
    *,
    style: str = "",
    width: int = WIDTH,
) -> str:
    """Return a whole SVG that says what it is to those who cannot see it.

    Args:
        key: unique on the page.
        style: rules for an SVG that stands alone; on a page, the page's rules apply.
    """
    return element(
        "svg",
        element("title", quote(title), id=f"{key}-title"),
        element("desc", quote(description), id=f"{key}-desc"),
        element("style", style) if style else "",
        element("rect", width="100%", height="100%", rx=8, class_="sheet") if style else "",
        *body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height:.0f}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
        class_="chart",
    )


def crop(content: str, room: float, size: float = 12) -> str:
    """Shorten a text to about `room` units at a font size; the width of letters is a guess."""
    most = max(4, int(room / (size * 0.54)))
    return content if len(content) <= most else content[: most - 1].rstrip() + "…"
