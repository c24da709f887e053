"""Numbers as text, and what they say as sentences. Neutral: every contender is treated alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .document import baseline_of, by_level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .document import Report, Result

UNKNOWN = "–"  # noqa: RUF001 - an en dash, for "no number"
# A larger pool has to gain more than this to be worth its connections.
GAIN = 1.05


def short(value: float | None) -> str:
    """Return a number with about three digits that matter: 0.031, 1.24, 17.3, 1,480."""
    if value is None:
        return UNKNOWN
    size = abs(value)
    if size >= 99.95 or value == 0:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    if size >= 0.9995:
        return f"{value:.2f}"
    return f"{value:.3f}" if size >= 0.0995 else f"{value:.2g}" if size < 0.0005 else f"{value:.3f}"


def count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def milliseconds(value: float | None) -> str:
    """Return a time with its unit, for running text."""
    if value is None:
        return UNKNOWN
    return f"{short(value / 1000)} s" if value >= 1000 else f"{short(value)} ms"


def factor(value: float | None) -> str:
    """Return a ratio as people say it: 17, 2.3, 0.62."""
    if value is None:
        return UNKNOWN
    if value >= 9.95:
        return f"{value:,.0f}"
    return (
        f"{value:.1f}" if value >= 1.995 else f"{value:.2f}" if value >= 0.0995 else f"{value:.2g}"
    )


def interval(low: float | None, high: float | None) -> tuple[str, str]:
    """Return both ends, with more digits if they would look the same."""
    ends = factor(low), factor(high)
    if low is None or high is None or low == high or ends[0] != ends[1]:
        return ends
    return short(low), short(high)


def ratio(result: Result) -> str:
    """Return a ratio with its interval for a table; "?" where the rounds do not tell."""
    if result.baseline:
        return "baseline"
    if result.ratio is None:
        return UNKNOWN
    if not result.has_interval:
        return factor(result.ratio)
    low, high = interval(result.ratio_low, result.ratio_high)
    return f"{factor(result.ratio)} ({low}-{high}){'' if result.is_clear else ' ?'}"


def plural(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def threads(number: int | None) -> str:
    return "an unknown number of threads" if number is None else plural(number, "thread")


def compare(result: Result, title: str, baseline: str) -> str:
    """Say what a result's ratio says, and how sure it is."""
    if result.ratio is None:
        return f"{title} cannot be compared with {baseline} here: there is no ratio."
    said = f"{factor(result.ratio)} times as fast as {baseline} here"
    if not result.has_interval:
        return f"{title} is {said}; how sure that is, is not known."
    low, high = interval(result.ratio_low, result.ratio_high)
    between = f"between {low} and {high}"
    if not result.is_clear:
        return (
            f"{title} and {baseline} cannot be told apart here: "
            f"{factor(result.ratio)} times as fast, {between}."
        )
    return f"{title} is {said}, {between}."


def errors(result: Result, title: str) -> str:
    """Say how many operations failed; empty if none did."""
    if not result.errors:
        return ""
    if result.operations is None:
        return f"{title}: {plural(result.errors, 'operation')} failed."
    tried = result.operations + result.errors
    return f"{title}: {result.errors:,} of {plural(tried, 'operation')} failed."


def findings(report: Report, results: Sequence[Result]) -> list[str]:
    """Say what a group's main results say, level by level."""
    said = []
    for level, found in by_level(results):
        measured = [each for each in found if each.ops_per_second]
        ordered = sorted(measured, key=lambda each: -(each.ops_per_second or 0))
        others = [each for each in ordered if not each.baseline]
        bases = [baseline_of(each, results) for each in others]
        for each, base in zip(others, bases, strict=True):
            if base is not None:
                titles = report.title(each.contender), report.title(base.contender)
                said.append(compare(each, *titles))
        if level == "driver" and any(base and base.level == "orm" for base in bases):
            said.append("These are spared the work of the ORM, which the baseline does.")
    return said


def fastest(report: Report, results: Sequence[Result]) -> str:
    """Say who does the most operations per second, and whether the second is close."""
    measured = [each for each in results if each.ops_per_second]
    if len(measured) < 2:
        return ""
    first, second = sorted(measured, key=lambda each: -(each.ops_per_second or 0))[:2]
    names = report.title(first.contender), report.title(second.contender)
    rate = f"{short(first.ops_per_second)} operations per second"
    if first.errors:
        rate += f" (and {first.errors:,} failed)"
    if overlap(first, second):
        return (
            f"{names[0]} did the most, {rate}, but {names[1]} is so close that "
            "their intervals overlap."
        )
    return (
        f"{names[0]} did the most, {rate}; next is {names[1]} with {short(second.ops_per_second)}."
    )


def overlap(one: Result, other: Result) -> bool:
    """Whether the intervals of two ratios have values in common (a baseline's is just 1)."""
    ends = []
    for each in (one, other):
        low, high = (1.0, 1.0) if each.baseline else (each.ratio_low, each.ratio_high)
        if low is None or high is None:
            return False
        ends.append((low, high))
    return ends[0][0] <= ends[1][1] and ends[1][0] <= ends[0][1]


def latency(report: Report, results: Sequence[Result]) -> str:
    """Say how the times are spread: the shortest and the longest tail."""
    known = [each for each in results if each.p50_ms is not None and each.p99_ms is not None]
    if not known:
        return ""
    best = min(known, key=lambda each: each.p99_ms or 0)
    worst = max(known, key=lambda each: each.p99_ms or 0)

    def tell(each: Result) -> str:
        median, tail = milliseconds(each.p50_ms), milliseconds(each.p99_ms)
        return f"{report.title(each.contender)}, half within {median}, 99 of 100 within {tail}"

    said = f"{tell(best)}."
    if best is not worst:
        said = f"Shortest tail: {tell(best)}. Longest: {tell(worst)}."
    if any(each.operations is not None and each.operations < 100 for each in known):
        said += " With fewer than 100 operations, p99 is just the slowest of them."
    return said


def connections(report: Report, results: Sequence[Result]) -> str:
    """Say how many connections the server had to open."""
    known = [each for each in results if each.connections_opened is not None]
    if not known:
        return ""
    together: dict[int, list[str]] = {}
    for each in sorted(known, key=lambda each: each.connections_opened or 0):
        together.setdefault(each.connections_opened or 0, []).append(report.title(each.contender))
    parts = [f"{count(many)} by {', '.join(titles)}" for many, titles in together.items()]
    return f"Connections opened at the server: {'; '.join(parts)}."


def fairness(report: Report, results: Sequence[Result]) -> str:
    """Say who shared the turns out least evenly."""
    known = [each for each in results if each.fairness is not None]
    if not known:
        return ""
    worst = min(known, key=lambda each: each.fairness or 0)
    value = worst.fairness or 0
    if value >= 0.9:
        return "All shared the turns out about evenly among the threads."
    many = worst.threads or 1
    return (
        f"The least even is {report.title(worst.contender)} with an index of {value:.2f}: as if "
        f"{_about(value * many)} of {plural(many, 'thread')} had done all the work."
    )


def scaling(report: Report, contender: str, results: Sequence[Result]) -> str:
    """Say how throughput changes from the fewest threads to the most, and where it is highest."""
    known = sorted(
        (each for each in results if each.ops_per_second and each.threads is not None),
        key=lambda each: each.threads or 0,
    )
    if len(known) < 2:
        return ""
    first, last = known[0], known[-1]
    best = max(known, key=lambda each: each.ops_per_second or 0)
    grown = (last.ops_per_second or 0) / (first.ops_per_second or 1)
    return (
        f"{report.title(contender)}: {factor(grown)} times the throughput with "
        f"{threads(last.threads)} of what it is with {first.threads}, most with {best.threads}."
    )


def knee(points: Sequence[tuple[int, float]]) -> int | None:
    """Return the smallest pool size beyond which no other gains more than 5 %.

    The largest one measured is none: what is beyond it nobody knows.
    """
    best = max((value for _size, value in points), default=0.0)
    found = min((size for size, value in points if value * GAIN >= best), default=None)
    return None if found == max((size for size, _value in points), default=None) else found


def rule_of_thumb(cores: int | None, spindles: int = 1) -> int | None:
    """Return cores x 2 + spindles, as PostgreSQL's wiki and HikariCP's "About Pool Sizing" say."""
    return None if cores is None else cores * 2 + spindles


def sizing(title: str, points: Sequence[tuple[int, float]], rule: int | None) -> str:
    """Say where a larger pool stops paying, and how that compares with the rule of thumb."""
    if len(points) < 2:
        return ""
    found = knee(points)
    if found is None:
        largest = plural(max(size for size, _value in points), "connection")
        return f"{title}: still gaining at the largest pool measured, {largest}; there is no knee."
    said = (
        f"{title}: from {plural(found, 'connection')} on, a larger pool gains at most 5 %, up to "
        f"the {max(size for size, _value in points)} measured"
    )
    if rule is None:
        return f"{said}."
    how = "the same as" if found == rule else "fewer than" if found < rule else "more than"
    return f"{said}; that is {how} the rule of thumb says ({rule})."


def growth(title: str, points: Sequence[tuple[int, float]]) -> str:
    """Say how the ratio changes with the number of operations."""
    if len(points) < 2:
        return ""
    (few, first), (many, last) = points[0], points[-1]
    return (
        f"{title}: {factor(first)} times the baseline with {plural(few, 'operation')}, "
        f"{factor(last)} times with {many:,}."
    )


def _about(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


def capital(sentence: str) -> str:
    """Begin a text with a capital letter and leave the rest, unlike `str.capitalize`."""
    return sentence[:1].upper() + sentence[1:]
