"""Put the figures of runs into docs/performance.md.

`python -m tests.benchmarks.performance micro.json http.json` rewrites what stands between the
comments for each of them; one of the two alone will do. What is around the figures is for people.

A run on another Python has its own place if the page has one (`micro-3.13`). A second run of the
same suite gets a column beside the first one's. Of a micro suite the rows that have a target are
shown.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pooling.bench.reports import layout
from pooling.bench.reports.markdown import escape, pipes
from pooling.formatting import count, number, plural

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


def block(document: Any, again: Any = None) -> str:
    """Return what the page says of a document, and of another run of the same suite."""
    to_parts = _micro_block if kind_of(document) == MICRO else _http_block
    parts = to_parts(document, again)
    versions = document["environment"]["packages"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    signed = escape(f"{pages.signature(document)} · {packages}")
    signed += f"; again at {again['environment']['taken_at']}" if again else ""
    return "\n\n".join([*parts, f"{signed}. In brackets 95 % intervals."])


def _python(document: Any) -> str:
    """Return the version of Python that a document was made with, without the last number."""
    found = re.search(r"\d+\.\d+", document["environment"]["python"])
    return found[0] if found else ""


def _micro_block(document: Any, again: Any) -> list[str]:
    return [*_targets(document, again), *_notes(report.notes(document))]


def _targets(document: Any, again: Any) -> list[str]:
    """Return a table of the rows that have a target, and how many of them were met."""
    found = [row for row in report.rows(document) if row.target]
    has_processor = any(row.processor for row in found)
    header = ["what", "against", "ours", "theirs", "ratio", *["CPU"] * has_processor, "target", ""]
    header += ["again"] if again else []
    later = {_key(row): row for row in report.rows(again)} if again else {}
    cells = []
    for row in found:
        whose = "" if row.subject == report.OURS else f", {row.subject}"
        figures = [row.ours, row.theirs, row.ratio, *[row.processor] * has_processor, row.target]
        line = [*map(escape, [row.whole + whose, row.against, *figures]), _verdict(row)]
        if again:
            other = later[_key(row)]
            line.append(f"{escape(other.ratio or other.ours)}, {_verdict(other)}")
        cells.append(line)
    said = f"{report.verdict(document)}."
    if again:
        both = [(row.verdict, later[_key(row)].verdict) for row in found]
        said += f" Again: {report.verdict(again)}. {_compared(both)}"
    return [pipes(header, cells, 2, escaped=True), escape(said)]


def _compared(both: Sequence[tuple[str, str]]) -> str:
    """Say whether two runs agree, by their verdicts."""
    same = sum(first == second for first, second in both)
    contradicting = sum({first, second} == {report.MET, report.MISSED} for first, second in both)
    rest = len(both) - same - contradicting
    return (
        f"Of {plural(len(both), 'verdict')} {count(same)} are the same, {count(rest)} are decided "
        f"in one run only; {count(contradicting)} contradict."
    )


def _key(row: report.Row) -> tuple[str, str, str]:
    return row.whole, row.subject, row.against


def _verdict(row: report.Row) -> str:
    return f"**{row.verdict}**" if row.verdict == report.MISSED else row.verdict


def _notes(found: Sequence[tuple[str, str]]) -> list[str]:
    """Return what belongs to the figures, warnings above all, as a list of Markdown."""
    lines = [f"- {escape(f'{kind}: {said}')}" for kind, said in found]
    return ["\n".join(lines)] if lines else []


def _http_block(document: Any, again: Any) -> list[str]:
    titles = layout.titles(document)
    header = [*HTTP_HEADER, "again", "again p99"] if again else HTTP_HEADER
    later = {_work(each): each for each in again["results"]} if again else {}
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
                *_again(later.get(_work(each))),
            ]
            for section in table.sections
            for each in section.results
        ]
        parts.append(pipes(header, rows))
    return [*parts, *_targets(document, again), *_notes(layout.notes(document))]


def _work(each: Any) -> tuple[str, str]:
    return each["workload"], each["contender"]


def _again(each: Any) -> list[str]:
    return [layout.ratio(each), number(each["p99_ms"])] if each else []


def update(root: Path, documents: Sequence[Any]) -> None:
    """Rewrite the page below `root`; nothing is written if that cannot be done.

    Raises:
        PageError: there is no such page, no place in it, no such document, or too many of them.
    """
    text = pages.read(root / PAGE)
    places: dict[str, list[Any]] = {}
    for document in documents:
        kind = kind_of(document)
        own_place = f"{kind}-{_python(document)}"
        place = own_place if f"<!-- {own_place}:begin -->" in text else kind
        places.setdefault(place, []).append(document)
    for place, runs in places.items():
        if len(runs) > 2:
            raise pages.PageError(f"{len(runs)} runs for {place}, where the page shows two")
        text = pages.replace(text, block(*runs), place, PAGE.name)
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
