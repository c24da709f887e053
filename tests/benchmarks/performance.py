"""Put the figures of runs into docs/performance.md, so that nobody types them.

`python -m tests.benchmarks.performance micro.json http.json` rewrites what stands between the
comments for each of them; one of the two alone will do. What is around the figures is for people.

A run on another Python has its own place if the page has one (`micro-3.13`); of such a run the rows
that have a target are shown.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import micro, table, words
from .document import read
from .markdown import escape, pipes
from .method import summary
from .readme import ReadmeError, machine, replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAGE = Path("docs/performance.md")
MICRO, HTTP = "micro", "http"
HTTP_HEADER = ["contender", "requests/s", "times the baseline", "p50 ms", "p99 ms", "errors"]


def kind_of(document: Mapping[str, object]) -> str:
    """Return which suite made a document.

    Raises:
        ReadmeError: it was neither of the two.
    """
    if document.get("suite") == MICRO:
        return MICRO
    report = read(document)
    if report.results and all(each.workload.startswith("http") for each in report.results):
        return HTTP
    raise ReadmeError("not a document of `poolbench --suite micro` or `poolbench --suite http`")


def block(document: Mapping[str, object], *, only_targets: bool = False) -> str:
    """Return what the page says of a document, or of those rows of a micro suite with a target."""
    if kind_of(document) == MICRO:
        parts = _micro_block(document, only_targets=only_targets)
    else:
        parts = _http_block(document)
    return "\n\n".join([*parts, _signature(document)])


def _python(document: Mapping[str, object]) -> str:
    """Return the version of Python that a document was made with, without the last number."""
    found = re.search(r"\d+\.\d+", str(read(document).environment.get("python")))
    return found[0] if found else ""


def _signature(document: Mapping[str, object]) -> str:
    report = read(document)
    versions = report.environment.get("packages")
    packages = ""
    if isinstance(versions, dict):
        packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    parts = [summary(report), machine(report), packages]
    said = escape(" · ".join(filter(None, parts)))
    return f"{said}. In brackets 95 % intervals."


def _micro_block(document: Mapping[str, object], *, only_targets: bool) -> list[str]:
    header = ["what", "against", "ours", "theirs", "ratio", "CPU", "target", ""]
    cells = []
    for row in micro.rows(document):
        if only_targets and not row.target:
            continue
        whose = "" if row.side == micro.OURS else f", {row.side}"
        verdict = f"**{row.verdict}**" if row.verdict == micro.MISSED else row.verdict
        found = [row.ours, row.theirs, row.ratio, row.processor, row.target]
        cells.append([*map(escape, [row.whole + whose, row.against, *found]), verdict])
    shown = pipes(header, cells, 2, escaped=True)
    return [shown, f"{escape(micro.verdict(document))}.", *_remarks(micro.remarks(document))]


def _remarks(found: Sequence[tuple[str, str]]) -> list[str]:
    """Return what belongs to the figures, warnings above all, as a list of Markdown."""
    lines = [f"- {escape(f'{kind}: {said}')}" for kind, said in found]
    return ["\n".join(lines)] if lines else []


def _http_block(document: Mapping[str, object]) -> list[str]:
    report = read(document)
    parts = []
    for group in report.groups():
        title, what = report.workloads.get(group.workload, (group.workload, ""))
        parts.append(f"{escape(title)}. {escape(what)}")
        rows = [
            [
                report.title(each.contender),
                words.short(each.ops_per_second),
                words.ratio(each),
                words.short(each.p50_ms),
                words.short(each.p99_ms),
                words.count(each.errors),
            ]
            for each in group.main
        ]
        parts.append(pipes(HTTP_HEADER, rows))
    return parts + _remarks(table.remarks(report))


def update(root: Path, documents: Sequence[Mapping[str, object]]) -> None:
    """Rewrite the page below `root`; nothing is written if that cannot be done.

    Raises:
        ReadmeError: there is no such page, no place in it, or no such document.
    """
    page = root / PAGE
    if not page.is_file():
        raise ReadmeError(f"there is no {page}; run this at the top of the checkout")
    text = page.read_text(encoding="utf-8")
    for document in documents:
        kind = kind_of(document)
        own_place = f"{kind}-{_python(document)}"
        has_own = f"<!-- {own_place}:begin -->" in text
        place = own_place if has_own else kind
        begin, end = f"<!-- {place}:begin -->", f"<!-- {place}:end -->"
        text = replace(text, block(document, only_targets=has_own), begin, end, PAGE.name)
    page.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.performance")
    parser.add_argument("results", type=Path, nargs="+", help="what poolbench --json wrote")
    parser.add_argument("--root", type=Path, default=Path(), help="the folder of docs/")
    given = parser.parse_args(arguments)
    try:
        documents = [json.loads(path.read_text(encoding="utf-8")) for path in given.results]
        for path, document in zip(given.results, documents, strict=True):
            if not isinstance(document, dict):
                raise ReadmeError(f"{path} is not a result document")
        update(given.root, documents)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
