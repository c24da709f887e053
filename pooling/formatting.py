"""Numbers, durations and texts as people read them: the one formatter of the project."""

from __future__ import annotations

NOTHING = "–"  # noqa: RUF001 - an en dash, for "no value"


def number(value: float | None) -> str:
    """Return a number with about three significant digits: 0.031, 1.24, 17.3, 1,480."""
    if value is None:
        return NOTHING
    size = abs(value)
    if size >= 99.95 or value == 0:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    if size >= 0.9995:
        return f"{value:.2f}"
    return f"{value:.3f}" if size >= 0.0005 else f"{value:.2g}"


def factor(value: float | None) -> str:
    """Return a ratio with about two significant digits: 17, 2.3, 0.62."""
    if value is None:
        return NOTHING
    if value >= 9.95:
        return f"{value:,.0f}"
    if value >= 1.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.0995 else f"{value:.2g}"


def interval(low: float | None, high: float | None) -> tuple[str, str]:
    """Return both ends of an interval, with more digits where they would look the same."""
    ends = factor(low), factor(high)
    return (number(low), number(high)) if low != high and ends[0] == ends[1] else ends


def count(value: int | None) -> str:
    """Return a whole number with separators of thousands."""
    return NOTHING if value is None else f"{value:,}"


def plural(value: int, one: str, many: str | None = None) -> str:
    """Return "1 caller", "2 callers"."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def duration(seconds: float | None) -> str:
    """Return seconds in a unit that fits, with two or three digits: 250 µs, 1.5 ms, 2 min 5 s."""
    if seconds is None:
        return NOTHING
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.01:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    if seconds < 86400:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
    return f"{seconds // 86400:.0f} d {seconds % 86400 // 3600:.0f} h"


def one_line(text: object, most: int | None = None) -> str:
    """Return a text in one line, without control characters, shortened to `most` characters."""
    plain = "".join(each if each.isprintable() else " " for each in str(text))
    found = " ".join(plain.split())
    return found if most is None or len(found) <= most else f"{found[: most - 3]}..."
