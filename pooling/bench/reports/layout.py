"""The layout that all reports share: which results stand together, and their cells as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pooling.bench.adapters.base import FAIR
from pooling.bench.results import TOTAL, ratio_of
from pooling.bench.verdict import ratio_text
from pooling.formatting import NOTHING, count, factor, number, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pooling.bench.results import Document, Result

LEVELS = {
    "orm": "through Django's ORM",
    "driver": "below the ORM",
    "simulated": "with a simulated database",
}
RATIO, ERRORS, BASELINE = "x baseline", "errors", "baseline"
COLUMNS = (
    *("rank", "ops/s", "elapsed s", RATIO, "p50 ms", "p99 ms", "p99.9 ms", "CPU ms", "opened"),
    *("at once", "fair", ERRORS),
)
FAIRNESS = ("contender", *FAIR)

# A larger pool has to gain more than this to be worth its connections.
GAIN = 1.05


class Section(NamedTuple):
    """Results that can be compared with each other; each as a row of a title and cells, too."""

    label: str
    results: list[Result]
    rows: list[list[str]]


class Table(NamedTuple):
    """Results of the same work on the same database with the same number of threads.

    Attributes:
        sweep: the option that varies between the sections, if one does.
        sections: by operation, level and driver, or by the value of that option.
    """

    title: str
    database: str
    workload: str
    threads: int
    sweep: str
    sections: list[Section]

    def main(self) -> list[Section]:
        """Return the sections of the whole work: its totals, if there are several operations."""
        totals = [each for each in self.sections if each.results[0]["operation"] == TOTAL]
        return totals or self.sections


def titles(document: Document) -> dict[str, str]:
    """Return what people call the contenders, by name."""
    return {each["name"]: each["title"] for each in document["contenders"]}


def tables(document: Document) -> list[Table]:
    """Return a table for each database, workload, number of threads and sweep."""
    workloads = {each["name"]: each["title"] for each in document["workloads"]}
    people = titles(document)
    levels = {each["name"]: each["level"] for each in document["contenders"]}
    found: dict[tuple[str, str, int, str], dict[str, list[Result]]] = {}
    for each in document["results"]:
        sweep = each["sweep"]
        parts = [each["operation"]] if each["operation"] != each["workload"] else []
        parts += [f"{sweep['name']} {sweep['value']:,}"] if sweep else []
        label = ", ".join([*parts, LEVELS[levels[each["contender"]]], each["driver"]])
        knob: str = sweep["name"] if sweep else ""
        key = each["database"], each["workload"], each["threads"], knob
        found.setdefault(key, {}).setdefault(label, []).append(each)
    tables = []
    for key, sections in found.items():
        database, workload, threads, knob = key
        names = [database, workloads[workload], plural(threads, "thread")]
        title = " · ".join([*names, f"by {knob}"] if knob else names)
        found_sections = []
        for label, results in sections.items():
            results.sort(key=standing)
            rows = [[people[each["contender"]], *cells(each)] for each in results]
            found_sections.append(Section(label, results, rows))
        tables.append(Table(title, *key, found_sections))
    return tables


def standing(each: Result) -> tuple[bool, float]:
    """Return what sorts results: by ratio, those with errors apart at the end."""
    return bool(each["errors"]), -(each["ratio"] or 0)


def cells(each: Result) -> list[str]:
    """Return the cells of `COLUMNS`."""
    return [
        "failed" if each["errors"] and each["ratio"] else count(each["rank"]),
        number(each["ops_per_second"]),
        number(each["elapsed_seconds"]),
        ratio(each),
        *map(number, (each["p50_ms"], each["p99_ms"], each["p999_ms"], each["cpu_ms"])),
        count(each["connections_opened"]),
        count(each["peak_connections"]),
        NOTHING if each["fairness"] is None else f"{each['fairness']:.2f}",
        count(each["errors"]),
    ]


def ratio(each: Result) -> str:
    """Return a ratio with its interval; "?" where the rounds do not tell it from the baseline."""
    if each["baseline"]:
        return BASELINE
    if (found := ratio_of(each)) is None:
        return factor(each["ratio"])
    return f"{ratio_text(found)}{' ?' if found.is_tie else ''}"


def notes(document: Document) -> list[tuple[str, str]]:
    """Return what belongs below the tables: kinds and texts."""
    names = titles(document)
    found = [("warning", each) for each in document["warnings"]]
    if document["interrupted"]:
        found.append(("warning", f"not the whole run: {document['interrupted']}"))
    for each in document["results"]:
        if each["note"]:
            where = f"{each['database']}, {each['workload']}, {plural(each['threads'], 'thread')}"
            found.append(("note", f"{names[each['contender']]} ({where}): {each['note']}"))
    for one in document["left_out"]:
        where = f" on {one['database']}" if "database" in one else ""
        found.append(("left out", f"{one['contender']}{where}: {one['reason']}"))
    return list(dict.fromkeys(found))


def fairness(document: Document) -> list[list[str]]:
    """Return each contender's settings, the rows of `FAIRNESS`."""
    return [[each["title"], *each["settings"].values()] for each in document["contenders"]]


def inequalities(document: Document) -> list[str]:
    """Say what contenders do that the others do not."""
    return [f"{x['title']}: {x['unequal']}" for x in document["contenders"] if x["unequal"]]


def legend(document: Document) -> str:
    """Explain the columns."""
    if not document["results"]:
        return "Nothing was measured."
    return (
        f"rank: those whose paired ratio to a rank's first is no difference share it. {RATIO}: "
        "times the baseline's operations per second, with a 95 % interval; ? where the rounds do "
        "not tell them apart. CPU ms: of the contender's process for each operation. opened, at "
        "once: connections at the server. fair: Jain's index over the threads, 1 is even. "
        f"The run took {number(document['duration_seconds'])} s."
    )


def facts(document: Any) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the environment and the settings as text."""
    found = {"Environment": document["environment"], "Settings": document["settings"]}
    return [
        (title, [(name.replace("_", " "), plain(each)) for name, each in values.items()])
        for title, values in found.items()
    ]


def plain(value: object) -> str:
    """Return a setting or a fact as text."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return NOTHING if value is None else str(value)


def summary(document: Document) -> str:
    """Return one line on when, where and how long."""
    environment = document["environment"]
    parts = [
        "manage.py poolbench",
        environment["taken_at"].partition("T")[0],
        plural(environment["cores"], "core"),
        environment["python"],
        f"measured in {number(document['duration_seconds'])} s",
    ]
    return " · ".join(parts)


def knees(document: Document, table: Table) -> list[tuple[str, str]]:
    """Return the knee of each contender of a sweep of the pool's size, and the rule of thumb.

    cores x 2 + spindles is the rule of PostgreSQL's wiki and HikariCP's "About Pool Sizing".
    """
    if table.sweep != "pool-size":
        return []
    points: dict[str, list[tuple[int, float]]] = {}
    for each in (result for section in table.main() for result in section.results):
        if each["ops_per_second"] and each["sweep"]:
            point = each["sweep"]["value"], each["ops_per_second"]
            points.setdefault(titles(document)[each["contender"]], []).append(point)
    found = []
    for title, measured in points.items():
        size = knee(measured)
        said = "none: it still gains" if size is None else plural(size, "connection")
        found.append((f"knee of {title}", said))
    return [*found, ("rule of thumb", f"{document['environment']['cores'] * 2 + 1} connections")]


def knee(points: Sequence[tuple[int, float]]) -> int | None:
    """Return the smallest pool size beyond which no other gains more than 5 %.

    The largest one measured is none: what is beyond it was not measured.
    """
    best = max((value for _size, value in points), default=0.0)
    found = min((size for size, value in points if value * GAIN >= best), default=None)
    return None if found == max((size for size, _value in points), default=None) else found
