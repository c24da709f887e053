"""Numbers, durations and texts as people read them: the one formatter of the project."""

from __future__ import annotations

NOTHING = "–"  # noqa: RUF001 - an en dash, for "no value"

SMALL = (
    (1e3, 1e6, 0, "µs"),
    (10, 1e3, 1, "ms"),
    (1e3, 1e3, 0, "ms"),
    (10, 1, 1, "s"),
    (60, 1, 0, "s"),
)
"""Units below a minute: the first number that is too large, units in a second, digits, name."""

LARGE = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
"""Units from a minute on: seconds and name of each and of the next smaller one."""


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
    for below, scale, digits, unit in SMALL:
        if round(seconds * scale, digits) < below:
            return f"{seconds * scale:.{digits}f} {unit}" if seconds >= 5e-7 else "0 s"
    left = round(seconds) if seconds < 3570 else round(seconds / 60) * 60
    left = left if seconds < 86370 else round(seconds / 3600) * 3600
    for size, unit, part, smaller in LARGE:
        if left >= size:
            rest = left % size // part
            return f"{left // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{left} s"


def milliseconds(seconds: float | None) -> str:
    """Return seconds as a number of milliseconds, for columns that have one unit."""
    return NOTHING if seconds is None else number(seconds * 1e3)


def one_line(text: object, most: int | None = None) -> str:
    """Return a text in one line, without control characters, shortened to `most` characters."""
    plain = "".join(each if each.isprintable() else " " for each in str(text))
    found = " ".join(plain.split())
    return found if most is None or len(found) <= most else f"{found[: most - 3]}..."
