"""Put the figures of runs into docs/performance.md.

`python -m tests.benchmarks.performance micro.json http.json` rewrites what stands between the
comments for each of them; one of the two alone will do. What is around the figures is for people.

A run on another Python has its own place if the page has one (`micro-3.13`). Of a micro suite the
rows that have a target are shown.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pooling.bench.reports import layout
from pooling.bench.reports.markdown import escape, pipes
from pooling.formatting import count, number

from . import pages
from .micro import report

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Path("docs/performance.md")
MICRO, HTTP = "micro", "http"
HTTP_HEADER = ["contender", "requests/s", "times the baseline", "p50 ms", "p99 ms", "errors"]


def kind_of(document: Any) -> str:
    """Return which suite made a document.

    Raises:
        PageError: it was neither of the two.
    """
    if document.get("suite") == MICRO:
        return MICRO
    results = document["results"]
    if results and all(each["workload"].startswith("http") for each in results):
        return HTTP
    raise pages.PageError("not a document of the suite micro or http of tests.benchmarks")


def block(document: Any) -> str:
    """Return what the page says of a document."""
    parts = _micro_block(document) if kind_of(document) == MICRO else _http_block(document)
    versions = document["environment"]["packages"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    signed = escape(f"{pages.signature(document)} · {packages}")
    return "\n\n".join([*parts, f"{signed}. In brackets 95 % intervals."])


def _python(document: Any) -> str:
    """Return the version of Python that a document was made with, without the last number."""
    found = re.search(r"\d+\.\d+", document["environment"]["python"])
    return found[0] if found else ""


def _micro_block(document: Any) -> list[str]:
    header = ["what", "against", "ours", "theirs", "ratio", "CPU", "target", ""]
    cells = []
    for row in report.rows(document):
        if not row.target:
            continue
        whose = "" if row.subject == report.OURS else f", {row.subject}"
        verdict = f"**{row.verdict}**" if row.verdict == report.MISSED else row.verdict
        found = [row.ours, row.theirs, row.ratio, row.processor, row.target]
        cells.append([*map(escape, [row.whole + whose, row.against, *found]), verdict])
    shown = pipes(header, cells, 2, escaped=True)
    return [shown, f"{escape(report.verdict(document))}.", *_notes(report.notes(document))]


def _notes(found: Sequence[tuple[str, str]]) -> list[str]:
    """Return what belongs to the figures, warnings above all, as a list of Markdown."""
    lines = [f"- {escape(f'{kind}: {said}')}" for kind, said in found]
    return ["\n".join(lines)] if lines else []


def _http_block(document: Any) -> list[str]:
    titles = layout.titles(document)
    parts = []
    for table in layout.tables(document):
        [workload] = [each for each in document["workloads"] if each["name"] == table.workload]
        parts.append(f"{escape(workload['title'])}. {escape(workload['what'])}")
        rows = [
            [
                titles[each["contender"]],
                number(each["ops_per_second"]),
                layout.ratio(each),
                number(each["p50_ms"]),
                number(each["p99_ms"]),
                count(each["errors"]),
            ]
            for section in table.sections
            for each in section.results
        ]
        parts.append(pipes(HTTP_HEADER, rows))
    return parts + _notes(layout.notes(document))


def update(root: Path, documents: Sequence[Any]) -> None:
    """Rewrite the page below `root`; nothing is written if that cannot be done.

    Raises:
        PageError: there is no such page, no place in it, or no such document.
    """
    text = pages.read(root / PAGE)
    for document in documents:
        kind = kind_of(document)
        own_place = f"{kind}-{_python(document)}"
        place = own_place if f"<!-- {own_place}:begin -->" in text else kind
        text = pages.replace(text, block(document), place, PAGE.name)
    (root / PAGE).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.performance")
    parser.add_argument("results", type=Path, nargs="+", help="what --json wrote")
    return pages.run(
        parser,
        arguments,
        lambda given: update(given["root"], list(map(pages.load, given["results"]))),
    )


if __name__ == "__main__":
    sys.exit(main())
