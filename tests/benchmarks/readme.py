"""Put a run's table and chart into the README.

`python -m tests.benchmarks.readme results.json` rewrites what stands between two comments of
the README, and the chart that it shows. The comments have to be there already: where they belong is
for people to decide.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import style, words
from .charts.rows import Row, Text, bars
from .charts.svg import quote
from .document import LEVELS, by_level, read
from .figures import sections
from .markdown import escape, pipes, plain
from .method import summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .document import Group, Report, Result

BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"
CHART = Path("docs/benchmark.svg")
HEADER = [
    "contender",
    "operations/s",
    "times the baseline",
    "p50 ms",
    "p99 ms",
    "connections",
    "errors",
]
DATABASE, WORKLOAD, THREADS = "PostgreSQL", "crud", 8


class ReadmeError(ValueError):
    """The README or the document cannot be used; the message says why."""


def choose(report: Report, workload: str | None = None, threads: int | None = None) -> list[Group]:
    """Return what to show: the same workload and number of threads on each database."""
    groups = [each for each in report.groups() if any(one.ops_per_second for one in each.main)]
    if workload is None:
        names = [each.workload for each in groups]
        workload = WORKLOAD if WORKLOAD in names or not names else names[0]
    groups = [each for each in groups if each.workload == workload]
    if threads is None:
        numbers = [each.threads for each in groups]
        threads = THREADS if THREADS in numbers or not numbers else numbers[0]
    groups = [each for each in groups if each.threads == threads]
    if not groups:
        raise ReadmeError(
            f"the document has no results of workload {workload!r} with {words.threads(threads)}"
        )
    return sorted(groups, key=lambda each: each.database != DATABASE)


def block(report: Report, groups: Sequence[Group]) -> str:
    """Return the README's part: the chart, a table for each database, and how to get them."""
    first = groups[0]
    title = report.workload_title(first.workload)
    parts = [
        f'<img src="{CHART}" width="480" alt="{_alternative(report, first)}">',
    ]
    for group in groups:
        parts.append(escape(f"{group.database}, {title}, {words.threads(group.threads)}:"))
        parts += [
            pipes([words.capital(LEVELS.get(level, level)), *HEADER[1:]], _rows(report, found))
            for level, found in by_level(group.main)
        ]
    parts.append(
        f"{escape(' · '.join(filter(None, (summary(report), machine(report)))))}. In brackets 95 % "
        "intervals, with ? where the rounds do not tell a contender from the baseline. Your "
        "machine differs: run `make bench`. [How to read it](docs/benchmarking.md)."
    )
    parts.append("<!-- made by: python -m tests.benchmarks.readme -->")
    return "\n\n".join(parts)


def machine(report: Report) -> str:
    """Return processor and system; its release says more about a machine than readers need."""
    system = plain(report.environment.get("system") or "").partition(" ")[0]
    return ", ".join(filter(None, (plain(report.environment.get("cpu") or ""), system)))


def _rows(report: Report, results: Sequence[Result]) -> list[list[str]]:
    ordered = sorted(results, key=lambda each: -(each.ops_per_second or 0))
    return [
        [
            report.title(each.contender),
            words.short(each.ops_per_second),
            words.ratio(each),
            words.short(each.p50_ms),
            words.short(each.p99_ms),
            words.count(each.connections_opened),
            words.count(each.errors),
        ]
        for each in ordered
    ]


def _alternative(report: Report, group: Group) -> str:
    what = f"{group.database}, {report.workload_title(group.workload)}, "
    what += words.threads(group.threads)
    return quote(f"Bars: operations per second, {what}. The table below has the numbers.")


def chart(report: Report, group: Group) -> str:
    """Return the bars as an SVG file that follows the reader's light or dark."""

    def row(each: Result) -> Row:
        said = words.short(each.ops_per_second)
        if each.ratio and not each.baseline:
            unclear = each.has_interval and not each.is_clear
            said += f" ({words.factor(each.ratio)} x{' ?' if unclear else ''})"
        if each.errors:
            said = f"{words.count(each.errors)} errors, {said}"
        return Row(report.title(each.contender), said, quiet=each.baseline, bar=each.ops_per_second)

    title = f"{group.database}, {report.workload_title(group.workload)}"
    title += f", {words.threads(group.threads)}"
    text = Text(
        "benchmark",
        title,
        " ".join(words.findings(report, group.main)),
        f"{title} · operations/s",
    )
    drawn = bars(text, sections(group.main, row, lambda _each: True), style=style.ALONE)
    return drawn + "\n"


def replace(
    page: str, inside: str, begin: str = BEGIN, end: str = END, name: str = "the README"
) -> str:
    """Return a page with another text between two comments.

    Raises:
        ReadmeError: the comments are not there, once each and in this order.
    """
    for comment in (begin, end):
        if page.count(comment) != 1:
            raise ReadmeError(
                f"{name} has {comment} {page.count(comment)} times and needs it once; "
                "put both comments where the table belongs"
            )
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ReadmeError(f"{end} has to come after {begin}")
    return f"{before}{begin}\n{inside}\n{end}{after}"


def update(
    root: Path,
    document: Mapping[str, object],
    *,
    workload: str | None = None,
    threads: int | None = None,
) -> None:
    """Rewrite the README and the chart below `root`; nothing is written if either cannot be."""
    report = read(document)
    groups = choose(report, workload, threads)
    readme = root / "README.md"
    if not readme.is_file():
        raise ReadmeError(f"there is no {readme}; run this at the top of the checkout")
    changed = replace(readme.read_text(encoding="utf-8"), block(report, groups))
    (root / CHART).parent.mkdir(exist_ok=True)
    (root / CHART).write_text(chart(report, groups[0]), encoding="utf-8")
    readme.write_text(changed, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.readme")
    parser.add_argument("results", type=Path, help="what poolbench --json wrote")
    parser.add_argument("--root", type=Path, default=Path(), help="the folder of README.md")
    parser.add_argument("--workload", help="default: crud, if it was measured")
    parser.add_argument("--threads", type=int, help="default: 8, if they were measured")
    given = parser.parse_args(arguments)
    try:
        document = json.loads(given.results.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ReadmeError(f"{given.results} is not a result document")
        update(given.root, document, workload=given.workload, threads=given.threads)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
