"""Put a run's table and chart into the README: `python -m tests.benchmarks.readme results.json`.

It rewrites what stands between two comments of the README, and the chart that it shows. The
comments have to be there already: where they belong is for people to decide.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pooling.bench.reports import layout
from pooling.bench.reports.charts import RATIOS, chart
from pooling.bench.reports.html import render_chart
from pooling.bench.reports.markdown import escape, pipes
from pooling.formatting import count, number, plural

from . import pages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pooling.bench.reports.layout import Table
    from pooling.bench.results import Document, Result

CHART = Path("docs/benchmark.svg")
HEADER = [
    *("rank", "operations/s", "times the baseline", "p50 ms", "p99 ms", "connections", "errors"),
]
DATABASE, WORKLOAD, THREADS = "PostgreSQL", "crud", 8


def choose(
    document: Document, workload: str | None = None, threads: int | None = None
) -> list[Table]:
    """Return what to show: the same workload and number of threads on each database."""
    tables = [each for each in layout.tables(document) if not each.sweep and chart(document, each)]
    if workload is None:
        names = [each.workload for each in tables]
        workload = WORKLOAD if WORKLOAD in names or not names else names[0]
    tables = [each for each in tables if each.workload == workload]
    if threads is None:
        numbers = [each.threads for each in tables]
        threads = THREADS if THREADS in numbers or not numbers else numbers[0]
    tables = [each for each in tables if each.threads == threads]
    if not tables:
        raise pages.PageError(
            f"the document has no results of workload {workload!r} with "
            + plural(threads, "thread")
        )
    return sorted(tables, key=lambda each: each.database != DATABASE)


def block(document: Document, tables: Sequence[Table]) -> str:
    """Return the README's part: the verdict, a chart, a table for each database and driver."""
    titles = layout.titles(document)
    drawn = f"{RATIOS}: {tables[0].title}."
    alternative = escape(f"{drawn} The table below has the numbers.").replace('"', "&quot;")
    lines = [f"- {escape(line)}" for line in document["verdict"]]
    parts = ["\n".join(lines), f'<img src="{CHART}" width="480" alt="{alternative}">']
    for table in tables:
        parts.append(escape(f"{table.title}:"))
        parts += [
            pipes([section.label, *HEADER], _rows(section.results, titles))
            for section in table.main()
        ]
    parts.append(
        f"{escape(pages.signature(document))}. In brackets 95 % intervals, with ? where the rounds "
        "do not tell a contender from the baseline; those that share a rank tie. Your machine "
        "differs: run `make bench`. [How to read it](docs/benchmarking.md)."
    )
    parts.append("<!-- made by: python -m tests.benchmarks.readme -->")
    return "\n\n".join(parts)


def _rows(results: Sequence[Result], titles: dict[str, str]) -> list[list[str]]:
    return [
        [
            titles[each["contender"]],
            layout.cells(each)[0],
            number(each["ops_per_second"]),
            layout.ratio(each),
            number(each["p50_ms"]),
            number(each["p99_ms"]),
            count(each["connections_opened"]),
            count(each["errors"]),
        ]
        for each in results
    ]


def update(
    root: Path, document: Document, workload: str | None = None, threads: int | None = None
) -> None:
    """Rewrite the README and the chart below `root`; nothing is written if either cannot be."""
    tables = choose(document, workload, threads)
    readme = root / "README.md"
    changed = pages.replace(pages.read(readme), block(document, tables), "benchmark", "the README")
    (root / CHART).parent.mkdir(exist_ok=True)
    if (drawn := chart(document, tables[0])) is not None:
        (root / CHART).write_text(render_chart(drawn), encoding="utf-8")
    readme.write_text(changed, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.readme")
    parser.add_argument("results", type=Path, help="what poolbench --json wrote")
    parser.add_argument("--workload", help="default: crud, if it was measured")
    parser.add_argument("--threads", type=int, help="default: 8, if they were measured")
    return pages.run(
        parser,
        arguments,
        lambda given: update(
            given["root"], pages.load(given["results"]), given["workload"], given["threads"]
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
