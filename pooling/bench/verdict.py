"""The verdict: five lines on what a pool gains here, and on what the run cannot tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pooling.formatting import count, factor, interval, number, plural

from .results import Result, is_whole, ratio_of
from .statistics import BEYOND, ENOUGH_ROUNDS, MARGIN, Ratio, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .results import Document


class Group(NamedTuple):
    """Whole results that can be compared: the same work, level and driver.

    Attributes:
        title: the database, and the driver if it is not the usual one.
        ours: the pool that the verdict is about; None without one.
    """

    title: str
    results: list[Result]
    ours: Result | None

    @property
    def base(self) -> Result | None:
        return next((r for r in self.results if r["baseline"] and r is not self.ours), None)

    def others(self) -> list[Result]:
        """Return what ours is compared with, pools first: no baseline, and none that failed."""
        apart = (self.ours, self.base)
        found = [each for each in self.results if each not in apart and not each["errors"]]
        return sorted(found, key=lambda each: each["contender"].startswith("persistent"))


def verdict(document: Document) -> list[str]:
    """Return the five lines."""
    found = groups(document)
    if not any(each.ours for each in found):
        return ["Nothing was measured that could be compared." if not found else _ranks(found[0])]
    # Of each database and driver the first workload: the one with most to say.
    main = list({each.title: each for each in found[::-1] if each.ours}.values())[::-1]
    names = {
        each["name"]: each["title"].removeprefix("Django, ").removesuffix(" (psycopg2)")
        for each in document["contenders"]
    }
    first = main[0].results[0]
    work = f"{first['workload']}, {plural(first['threads'], 'thread')}"
    return [
        f"Gain ({work}): {_gain(main, names)}.",
        f"Other pools: {_standing(main, names)}.",
        f"Connections: {_connections(main, names)}.",
        f"Tail: {_tail(main, names)}.",
        f"Not said: {_limits(document, main, names)}.",
    ]


def groups(document: Document) -> list[Group]:
    """Return the whole results that can be compared; of a sweep, those at its last value."""
    levels = {each["name"]: each["level"] for each in document["contenders"]}
    last: dict[str, int] = {}
    for each in document["results"]:
        if sweep := each["sweep"]:
            last[sweep["name"]] = max(last.get(sweep["name"], 0), sweep["value"])
    together: dict[tuple[Any, ...], list[Result]] = {}
    for each in document["results"]:
        sweep = each["sweep"]
        if not is_whole(each) or each["workload"] == "exhaustion":
            continue
        if sweep is None or sweep["value"] == last[sweep["name"]]:
            key = tuple(each[name] for name in ("database", "driver", "workload", "threads"))
            together.setdefault((*key, levels[each["contender"]]), []).append(each)
    return [
        Group(
            database + (" with psycopg2" if driver == "psycopg2" else ""),
            results,
            _ours(results, workload),
        )
        for (database, driver, workload, *_), results in together.items()
    ]


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


def _gain(main: Sequence[Group], names: dict[str, str]) -> str:
    parts = []
    for each in main:
        if each.ours is None or each.base is None or not (found := ratio_of(each.ours)):
            continue
        base = names[each.base["contender"]]
        text = f"indistinguishable from {base}, " if found.is_tie else ""
        text += f"{ratio_text(found)} times" + ("" if found.is_tie else f" {base}")
        times = f"p50 {number(each.ours['p50_ms'])} ms instead of {number(each.base['p50_ms'])}"
        parts.append(f"{each.title} {text}, {times}")
    return "; ".join(parts) or "no baseline was measured"


def _standing(main: Sequence[Group], names: dict[str, str]) -> str:
    parts = []
    for each in main:
        tied, told = [], []
        for other in each.others():
            if each.ours and (found := against(each.ours, other)):
                name = names[other["contender"]]
                if found.is_tie:
                    tied.append(f"{name}: {ratio_text(found)}")
                else:
                    told.append(f"{ratio_text(found)} times {name}")
        if tied:
            told.append(f"indistinguishable from {', '.join(tied)}")
        if told:
            parts.append(f"{each.title} {', '.join(told)}")
    return "; ".join(parts) or "none was measured"


def _connections(main: Sequence[Group], names: dict[str, str]) -> str:
    for each in main:
        if each.ours is None or each.ours["peak_connections"] is None:
            continue
        shared = each.ours["peak_connections"]
        parts = [f"{plural(each.ours['threads'], 'thread')} shared {count(shared)}"]
        parts += [
            f"{names[other['contender']]} held {count(other['peak_connections'])}"
            for other in each.others()
            if (other["peak_connections"] or 0) > shared
        ]
        if each.base:
            opened = count(each.base["connections_opened"])
            parts.append(f"{names[each.base['contender']]} opened {opened}, one for each operation")
        return f"{'; '.join(parts)} ({each.title})"
    return "not counted"


def _tail(main: Sequence[Group], names: dict[str, str]) -> str:
    parts = []
    for each in (main[0].ours, main[0].base, *main[0].others()):
        if each is not None and each["p99_ms"] is not None:
            beyond = f" (p99.9 {number(each['p999_ms'])})" if each["p999_ms"] else ""
            parts.append(f"{names[each['contender']]} {number(each['p99_ms'])} ms{beyond}")
    if not parts:
        return f"not known, p99 takes {100 * BEYOND:,} operations"
    return f"{main[0].title} p99: {', '.join(parts)}"


def ties(group: Group) -> list[list[str]]:
    """Return the contenders that share a rank."""
    shared: dict[int, list[str]] = {}
    for each in group.results:
        if each["rank"]:
            shared.setdefault(each["rank"], []).append(each["contender"])
    return [names for names in shared.values() if len(names) > 1]


def _limits(document: Document, found: Sequence[Group], names: dict[str, str]) -> str:
    parts = [f"differences below {MARGIN - 1:.0%}"]
    parts += [
        f"which is best of {', '.join(names[name] for name in tied)} ({each.title})"
        for each in found
        for tied in ties(each)
    ]
    rounds = min((each["rounds"] for group in found for each in group.results), default=0)
    if document["settings"].get("quick"):
        parts.insert(0, "by --quick, what needs more rounds and other pools: close contenders")
    if rounds < ENOUGH_ROUNDS:
        parts.append(f"how wide intervals are, from only {plural(rounds, 'round')}")
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
    return (
        f"{group.title}, {group.results[0]['workload']}: {ranked or 'no contender without errors'}."
    )
