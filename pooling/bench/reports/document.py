"""The result document, read with tolerance: what is missing or odd becomes None or empty.

Renderers show what there is. A document may come from a file that somebody edited, from an older
version, or from a run that was cut short.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LEVELS = {
    "orm": "through Django's ORM",
    "driver": "below the ORM, at the driver",
    "simulated": "with a simulated database",
}
TOTAL = "total"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Who took part."""

    name: str
    title: str
    version: str = ""
    how: str = ""
    level: str = "orm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one contender did; see `pooling.bench.results`. None is "not known"."""

    database: str
    contender: str
    workload: str
    operation: str
    level: str
    threads: int | None
    ops_per_second: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    connections_opened: int | None
    peak_connections: int | None
    errors: int
    operations: int | None
    fairness: float | None
    wait_share: float | None
    rounds: int | None
    baseline: bool
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    rounds_ops_per_second: tuple[float, ...]
    histogram: tuple[tuple[float, int], ...]
    sweep: tuple[str, int] | None
    note: str

    @property
    def has_interval(self) -> bool:
        return None not in (self.ratio, self.ratio_low, self.ratio_high)

    @property
    def is_clear(self) -> bool:
        """Whether the interval lies on one side of "no difference"."""
        if self.ratio_low is None or self.ratio_high is None:
            return False
        return not self.ratio_low <= 1 <= self.ratio_high


@dataclass(frozen=True, slots=True)
class Group:
    """What is compared: the same work on the same database with the same number of threads."""

    database: str
    workload: str
    threads: int | None
    results: tuple[Result, ...]

    @property
    def operations(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.operation for each in self.results))

    @property
    def main(self) -> tuple[Result, ...]:
        """The results that stand for the whole: the totals, where there are several operations."""
        names = self.operations
        chosen = TOTAL if TOTAL in names else names[0] if names else ""
        return self.of(chosen)

    def of(self, operation: str) -> tuple[Result, ...]:
        return tuple(each for each in self.results if each.operation == operation)


@dataclass(frozen=True, slots=True)
class Report:
    """The whole document."""

    contenders: Mapping[str, Contender]
    workloads: Mapping[str, tuple[str, str]]
    results: tuple[Result, ...]
    left_out: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    environment: Mapping[str, object]
    settings: Mapping[str, object]
    duration: float | None
    order: Mapping[str, int] = field(default_factory=dict)

    def title(self, contender: str) -> str:
        """Return what to call a contender in a sentence: "pooling, psycopg 3" would break it."""
        found = self.contenders.get(contender)
        title = found.title if found else contender
        head, comma, rest = title.partition(", ")
        return f"{head} ({rest})" if comma and "(" not in title else title

    def workload_title(self, workload: str) -> str:
        return self.workloads.get(workload, (workload, ""))[0]

    def groups(self) -> list[Group]:
        """Return what was measured outside of sweeps, in the document's order."""
        together: dict[tuple[str, str, int | None], list[Result]] = {}
        for each in self.results:
            if each.sweep is None:
                key = (each.database, each.workload, each.threads)
                together.setdefault(key, []).append(each)
        return [Group(*key, tuple(results)) for key, results in together.items()]

    def sweeps(self) -> dict[tuple[str, str, int | None, str], list[Result]]:
        """Return the sweeps' main results by database, workload, threads and knob."""
        together: dict[tuple[str, str, int | None, str], list[Result]] = {}
        for each in self.results:
            if each.sweep is not None:
                key = (each.database, each.workload, each.threads, each.sweep[0])
                together.setdefault(key, []).append(each)
        return {
            key: sorted(Group(*key[:3], tuple(results)).main, key=lambda r: (r.sweep or ("", 0))[1])
            for key, results in together.items()
        }

    @property
    def cores(self) -> int | None:
        return whole(self.environment.get("cores"))


def read(document: Mapping[str, object]) -> Report:
    """Read a document, whatever state it is in."""
    contenders = {}
    for each in mappings(document.get("contenders")):
        name = text(each.get("name"))
        contenders[name] = Contender(
            name=name,
            title=text(each.get("title")) or name,
            version=text(each.get("version")),
            how=text(each.get("how")),
            level=text(each.get("level")) or "orm",
        )
    workloads = {
        text(each.get("name")): (
            text(each.get("title")) or text(each.get("name")),
            text(each.get("what")),
        )
        for each in mappings(document.get("workloads"))
    }
    results = tuple(_result(each, contenders) for each in mappings(document.get("results")))
    left_out = tuple(_left_out(each) for each in mappings(document.get("left_out")))
    names = [*contenders, *(each.contender for each in results)]
    return Report(
        contenders=contenders,
        workloads=workloads,
        results=results,
        left_out=left_out,
        warnings=tuple(text(each) for each in _sequence(document.get("warnings"))),
        environment=_mapping(document.get("environment")),
        settings=_mapping(document.get("settings")),
        duration=number(document.get("duration_seconds")),
        order={name: place for place, name in enumerate(dict.fromkeys(names))},
    )


def _result(raw: Mapping[str, object], contenders: Mapping[str, Contender]) -> Result:
    name, workload = text(raw.get("contender")), text(raw.get("workload"))
    sweep = _mapping(raw.get("sweep"))
    value = whole(sweep.get("value"))
    known = contenders.get(name)
    pairs = [tuple(_sequence(each)) for each in _sequence(raw.get("histogram"))]
    histogram = [
        (upper, count)
        for upper, count in ((number(p[0]), whole(p[1])) for p in pairs if len(p) == 2)
        if upper is not None and upper > 0 and count is not None and count >= 0
    ]
    rounds = (number(each) for each in _sequence(raw.get("rounds_ops_per_second")))
    return Result(
        database=text(raw.get("database")),
        contender=name,
        workload=workload,
        operation=text(raw.get("operation")) or workload,
        level=known.level if known else "orm",
        threads=whole(raw.get("threads")),
        ops_per_second=number(raw.get("ops_per_second")),
        p50_ms=number(raw.get("p50_ms")),
        p95_ms=number(raw.get("p95_ms")),
        p99_ms=number(raw.get("p99_ms")),
        max_ms=number(raw.get("max_ms")),
        connections_opened=whole(raw.get("connections_opened")),
        peak_connections=whole(raw.get("peak_connections")),
        errors=whole(raw.get("errors")) or 0,
        operations=whole(raw.get("operations")),
        fairness=number(raw.get("fairness")),
        wait_share=number(raw.get("wait_share")),
        rounds=whole(raw.get("rounds")),
        baseline=raw.get("baseline") is True,
        ratio=_positive(raw.get("ratio")),
        ratio_low=_positive(raw.get("ratio_low")),
        ratio_high=_positive(raw.get("ratio_high")),
        rounds_ops_per_second=tuple(each for each in rounds if each is not None),
        histogram=tuple(sorted(histogram)),
        sweep=(text(sweep.get("name")), value) if value is not None else None,
        note=text(raw.get("note")),
    )


def _left_out(raw: Mapping[str, object]) -> tuple[str, str]:
    name, database = text(raw.get("contender")), text(raw.get("database"))
    return (f"{name} on {database}" if database else name, text(raw.get("reason")))


def by_level(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """Return results apart by level: what goes through the ORM does more, so it is not compared
    with what does not."""
    apart: dict[str, list[Result]] = {level: [] for level in LEVELS}
    for each in results:
        apart.setdefault(each.level, []).append(each)
    return [(level, found) for level, found in apart.items() if found]


def baseline_of(result: Result, among: Sequence[Result]) -> Result | None:
    """Return the baseline that a result's ratio refers to: its own level's, if that has one."""
    same = [each for each in among if each.baseline and each.operation == result.operation]
    own = [each for each in same if each.level == result.level]
    return next(iter(own or same), None)


def number(value: object) -> float | None:
    """Return a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def whole(value: object) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def _positive(value: object) -> float | None:
    found = number(value)
    return found if found is not None and found > 0 else None


def text(value: object) -> str:
    """Return a text in one line, without what would move a cursor or break an encoding."""
    return "" if value is None else CONTROL.sub(" ", str(value))


def mappings(value: object) -> list[Mapping[str, object]]:
    return [each for each in _sequence(value) if isinstance(each, Mapping)]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()
