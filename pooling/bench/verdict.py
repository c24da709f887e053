"""The verdict: five lines on what a pool gains here, and on what the run cannot tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pooling.formatting import count, factor, interval, number, plural

from .results import Result, is_whole, ratio_of
from .statistics import BEYOND, ENOUGH_ROUNDS, MARGIN, Ratio, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .results import Document


class Group(NamedTuple):
    """Whole results that can be compared: the same work, level and driver.

    Attributes:
        ours: the pool that the verdict is about; None without one.
    """

    title: str
    database: str
    results: list[Result]
    ours: Result | None

    @property
    def base(self) -> Result | None:
        return next((r for r in self.results if r["baseline"] and r is not self.ours), None)

    def others(self) -> list[Result]:
        """Return what ours is compared with: without baseline, and without those that failed."""
        apart = (self.ours, self.base)
        return [each for each in self.results if each not in apart and not each["errors"]]


def verdict(document: Document) -> list[str]:
    """Return the five lines."""
    found = groups(document)
    if not any(each.ours for each in found):
        return ["Nothing was measured that could be compared." if not found else _ranks(found[0])]
    # Of each database the first workload: the one with most to say.
    main = list({(each.database, each.results[0]["driver"]): each for each in found[::-1]}.values())
    main = [each for each in main[::-1] if each.ours]
    names = short_titles(document)
    return [
        f"Gain: {_gain(main, names)}.",
        f"Other pools: {_standing(main, names)}.",
        f"Connections: {_connections(main, names)}.",
        f"Tail: {_tail(main, names)}.",
        f"Not said: {_limits(document, found, names)}.",
    ]


def short_titles(document: Document) -> dict[str, str]:
    """Return what people call the contenders, in a sentence."""
    return {each["name"]: each["title"].removeprefix("Django, ") for each in document["contenders"]}


def groups(document: Document) -> list[Group]:
    """Return the whole results that can be compared; of a sweep, those at its last value."""
    info = {each["name"]: each for each in document["contenders"]}
    last: dict[str, int] = {}
    for each in document["results"]:
        if sweep := each["sweep"]:
            last[sweep["name"]] = max(last.get(sweep["name"], 0), sweep["value"])
    titles = {each["name"]: each["title"] for each in document["workloads"]}
    together: dict[tuple[str, str, str, int, str], list[Result]] = {}
    for each in document["results"]:
        sweep = each["sweep"]
        if not is_whole(each) or (sweep and sweep["value"] != last[sweep["name"]]):
            continue
        if each["workload"] == "exhaustion":
            continue
        level = info[each["contender"]]["level"]
        key = each["database"], level, each["workload"], each["threads"], each["driver"]
        together.setdefault(key, []).append(each)
    found = []
    for (database, _level, workload, threads, driver), results in together.items():
        where = f" with {driver}" if driver == "psycopg2" else ""
        title = f"{database}{where}, {titles[workload].lower()}, {plural(threads, 'thread')}"
        found.append(Group(title, database, results, _ours(results, workload)))
    return found


def _ours(results: Sequence[Result], workload: str) -> Result | None:
    """Return the result of this project's pool; per transaction where that is the question."""
    ours = [each for each in results if "pooled" in each["contender"] and each["ops_per_second"]]
    of_transactions = [each for each in ours if each["contender"].endswith("-transaction")]
    chosen = of_transactions if workload == "think" else []
    return next(iter(chosen or ours), None)


def against(one: Result, other: Result) -> Ratio | None:
    """Return the paired ratio of two results, from the rounds that both have."""
    pairs = zip(one["rounds_ops_per_second"], other["rounds_ops_per_second"], strict=False)
    both = [(mine, theirs) for mine, theirs in pairs if mine and theirs]
    if not both:
        return None
    return ratio([theirs for _, theirs in both], [mine for mine, _ in both])


def ratio_text(found: Ratio) -> str:
    """Return a ratio and its interval as text."""
    low, high = interval(found.low, found.high)
    return f"{factor(found.value)} ({low}-{high})"


def compared(found: Ratio | None, other: str) -> str:
    """Say how a contender stands against another one."""
    if found is None:
        return f"not compared with {other}"
    if found.is_tie:
        return f"indistinguishable from {other}: {ratio_text(found)}"
    return f"{ratio_text(found)} times {other}"


def _gain(main: Sequence[Group], names: dict[str, str]) -> str:
    parts = []
    for each in main:
        if each.ours is None or each.base is None:
            continue
        text = compared(ratio_of(each.ours), names[each.base["contender"]])
        times = f"p50 {_ms(each.ours['p50_ms'])} instead of {_ms(each.base['p50_ms'])}"
        parts.append(f"{names[each.ours['contender']]} {_is(text)} ({each.title}; {times})")
    return "; ".join(parts) or "no baseline was measured"


def _is(text: str) -> str:
    return f"is {text}" if text.startswith(("indist", "not")) else f"does {text}"


def _ms(value: float | None) -> str:
    return f"{number(value)} ms"


def _standing(main: Sequence[Group], names: dict[str, str]) -> str:
    parts = []
    for each in main:
        if each.ours is None:
            continue
        others = [
            compared(against(each.ours, other), names[other["contender"]])
            for other in each.others()
        ]
        if others:
            parts.append(f"{each.title.partition(',')[0]}: {', '.join(others)}")
    return "; ".join(parts) or "none was measured"


def _connections(main: Sequence[Group], names: dict[str, str]) -> str:
    for each in main:
        if each.ours is None or each.ours["peak_connections"] is None:
            continue
        ours = each.ours
        text = f"{plural(ours['threads'], 'thread')} shared {count(ours['peak_connections'])}"
        others = []
        if each.base:
            opened = plural(each.base["connections_opened"] or 0, "connection")
            others.append(f"{names[each.base['contender']]} opened {opened}")
        others += [
            f"{names[other['contender']]} held {count(other['peak_connections'])}"
            for other in each.others()
            if (other["peak_connections"] or 0) > (ours["peak_connections"] or 0)
        ]
        return "; ".join([f"{text} ({each.title})", *others])
    return "not counted"


def _tail(main: Sequence[Group], names: dict[str, str]) -> str:
    [first, *_] = main
    parts = []
    for result in (first.ours, first.base, *first.others()):
        if result is None or result["p99_ms"] is None:
            continue
        beyond = f", p99.9 {_ms(result['p999_ms'])}" if result["p999_ms"] else ""
        parts.append(f"{names[result['contender']]} p99 {_ms(result['p99_ms'])}{beyond}")
    return "; ".join(parts) or f"not known: p99 takes {100 * BEYOND:,} operations"


def ties(group: Group) -> list[list[str]]:
    """Return the contenders that share a rank."""
    shared: dict[int, list[str]] = {}
    for each in group.results:
        if each["rank"]:
            shared.setdefault(each["rank"], []).append(each["contender"])
    return [names for names in shared.values() if len(names) > 1]


def _limits(document: Document, found: Iterable[Group], names: dict[str, str]) -> str:
    found = list(found)
    parts = [f"differences below {MARGIN - 1:.0%}"]
    parts += [
        f"the order of {', '.join(names[name] for name in tied)} ({each.title})"
        for each in found
        for tied in ties(each)
    ]
    rounds = min((each["rounds"] for group in found for each in group.results), default=0)
    if document["settings"].get("quick"):
        parts.insert(0, "by --quick, what needs more rounds and other pools: close contenders")
    if rounds < ENOUGH_ROUNDS:
        parts.append(f"how wide intervals are: {plural(rounds, 'round')} are too few")
    failed = {names[x["contender"]] for group in found for x in group.results if x["errors"]}
    if failed:
        parts.append(f"what {', '.join(sorted(failed))} would do without errors")
    if document["interrupted"]:
        parts.append(f"what was not measured: {document['interrupted']}")
    parts += [each for each in document["warnings"] if each.startswith("the machine")]
    return "; ".join(parts)


def _ranks(group: Group) -> str:
    clean = [each for each in group.results if each["rank"]]
    clean.sort(key=lambda each: each["rank"] or 0)
    ranked = ", ".join(f"{each['rank']}. {each['contender']}" for each in clean)
    return f"{group.title}: {ranked or 'no contender without errors'}."
