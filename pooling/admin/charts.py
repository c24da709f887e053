"""Bars as SVG geometry, with attributes only: no inline style, for a strict CSP."""

from __future__ import annotations

from typing import Any

WIDTH = 1000
"""Width of a bar in SVG units; the stylesheet scales it."""

MAX_SEPARATORS = 60
"""Largest `max_size` for which a bar has lines between connections."""

KINDS = ("leased", "connecting", "idle", "free")


def bar(stats: dict[str, Any], *, down: bool = False) -> dict[str, Any]:
    """Return the bar of a pool's connections: segments, separators and the text alternative.

    While the server is down, connections that are not in use are probably dead: nothing has used
    them since.
    """
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
    legend = [(kind, "idle, not tested" if down and kind == "idle" else kind) for kind in KINDS]
    text = ", ".join(f"{counts[kind]} {label}" for kind, label in legend)
    return {
        "width": WIDTH,
        "segments": segments,
        "lines": [round(WIDTH * position / total, 2) for position in lines],
        "text": f"{text}, at most {stats['max_size']}",
        "legend": [(kind, label, counts[kind]) for kind, label in legend],
    }
