"""Bars and charts as SVG geometry, with attributes only: no inline style, for a strict CSP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pooling.fleet.history import SLOT_SECONDS, SLOTS
from pooling.formatting import NOTHING, duration

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 1000
"""Width of a bar in SVG units; the stylesheet scales it."""

MAX_SEPARATORS = 60
"""Largest `max_size` for which a bar has lines between connections."""

HEIGHT = 40
"""Height of a chart in SVG units; a slot is one unit wide."""

KINDS = ("leased", "connecting", "idle", "free")


def bar(stats: dict[str, Any]) -> dict[str, Any]:
    """Return the bar of a pool's connections: segments, separators and the text alternative."""
    free = max(stats["max_size"] - stats["size"], 0)
    counts = dict(
        zip(KINDS, (stats["leased"], stats["connecting"], stats["idle"], free), strict=True)
    )
    total = max(sum(counts.values()), 1)
    segments = []
    begin = 0
    for kind, number in counts.items():
        if number:
            left = round(WIDTH * begin / total, 2)
            width = round(WIDTH * number / total, 2)
            segments.append({"kind": kind, "x": left, "width": width})
        begin += number
    lines = range(1, total) if total <= MAX_SEPARATORS else ()
    text = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    return {
        "width": WIDTH,
        "segments": segments,
        "lines": [round(WIDTH * position / total, 2) for position in lines],
        "text": f"{text}, at most {stats['max_size']}",
        "counts": counts,
    }


def charts(history: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the charts of a pool's history."""
    rates = [None if value is None else value / SLOT_SECONDS for value in history["acquired"]]
    return [
        _chart("Connections in use", history["leased"], _whole, behind=history["size"]),
        _chart("Callers waiting", history["waiting"], _whole),
        _chart("Leases per second", rates, _rate),
        _chart("Wait time, p95", history["wait_p95"], _milliseconds),
        _chart("Hold time, p95", history["hold_p95"], _milliseconds),
        _chart("Timeouts and errors", history["failed"], _whole),
    ]


Values = list[float | None]


def _chart(
    title: str, values: Values, show: Callable[[float], str], *, behind: Values | None = None
) -> dict[str, Any]:
    values = [*[None] * (SLOTS - len(values)), *values]
    known = [value for value in values if value is not None]
    top = max(known, default=0)
    scale = max([top, *(value for value in behind or () if value is not None)]) or 1
    now = show(values[-1]) if values[-1] is not None else NOTHING
    return {
        "title": title,
        "now": now,
        "top": show(top) if known else NOTHING,
        "width": SLOTS,
        "height": HEIGHT,
        "area": _steps(values, scale, closed=True),
        "line": _steps(values, scale, closed=False),
        "behind": _steps(behind, scale, closed=False) if behind else "",
        "text": f"{title} in the last ten minutes: now {now}, at most {show(top)}",
    }


def _steps(values: Values, scale: float, *, closed: bool) -> str:
    """Return the path of a step curve, with gaps where values are missing."""
    path: list[str] = []
    before: float | None = None
    for slot, value in enumerate(values, SLOTS - len(values)):
        if value is None:
            if closed and before is not None:
                path.append(f"V{HEIGHT}Z")
            before = None
            continue
        y = round(HEIGHT - 1 - (HEIGHT - 3) * value / scale, 1)
        if before is None:
            path.append(f"M{slot} {HEIGHT}V{y}" if closed else f"M{slot} {y}")
        elif y != before:
            path.append(f"V{y}")
        path.append(f"H{slot + 1}")
        before = y
    if closed and before is not None:
        path.append(f"V{HEIGHT}Z")
    return "".join(path)


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _rate(value: float) -> str:
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def _milliseconds(value: float) -> str:
    return duration(value / 1000) if value else NOTHING
