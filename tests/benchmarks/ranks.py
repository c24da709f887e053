"""Do two runs rank alike? `python -m tests.benchmarks.ranks first.json second.json`.

It rewrites what stands between two comments of `docs/benchmarking.md`: the ranks of both runs, and
whether they agree.
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pooling.bench.reports import layout
from pooling.bench.reports.markdown import escape, pipes

from . import pages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pooling.bench.results import Document

PAGE = Path("docs/benchmarking.md")
SAME, TIES, CONTRADICTION = "the same", "the same up to ties", "**contradicts**"

Ranks: TypeAlias = "dict[str, int]"


def ranks(document: Document) -> dict[str, Ranks]:
    """Return the ranks of those without errors, by table and contender."""
    titles = {
        name: title.removeprefix("Django, ").removesuffix(" (psycopg2)")
        for name, title in layout.titles(document).items()
    }
    return {
        f"{table.title}, {section.label}": {
            titles[each["contender"]]: each["rank"] for each in section.results if each["rank"]
        }
        for table in layout.tables(document)
        for section in table.sections
    }


def agreement(first: Ranks, second: Ranks) -> str:
    """Tell whether one run has a contender before another that the other run has behind it."""
    both = first.keys() & second.keys()
    for one, other in combinations(both, 2):
        if (first[one] - first[other]) * (second[one] - second[other]) < 0:
            return CONTRADICTION
    return SAME if first == second else TIES


def text(found: Ranks) -> str:
    """Return ranks in one line, as in "1. pooling, native pool; 3. stock"."""
    shared: dict[int, list[str]] = {}
    for title, rank in found.items():
        shared.setdefault(rank, []).append(title)
    return "; ".join(f"{rank}. {', '.join(sorted(shared[rank]))}" for rank in sorted(shared))


def block(first: Document, second: Document) -> str:
    """Return the page's part: a row for each table that ranks somebody in both runs."""
    earlier, later = ranks(first), ranks(second)
    rows = [
        [escape(title), escape(text(own)), escape(text(later[title])), agreement(own, later[title])]
        for title, own in earlier.items()
        if own and later.get(title)
    ]
    if not rows:
        raise pages.PageError("the two documents have no table in common")
    same, ties, contradictions = map([row[-1] for row in rows].count, (SAME, TIES, CONTRADICTION))
    shown = pipes(["table", "first run", "second run", ""], rows, 4, escaped=True)
    said = f"Of {len(rows)} tables {same} are the same, {ties} the same up to ties; "
    said += f"{contradictions} contradict."
    signed = f"{escape(pages.signature(first))}; again at {second['environment']['taken_at']}."
    return "\n\n".join([shown, said, signed])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ranks")
    parser.add_argument("first", type=Path, help="what poolbench --json wrote")
    parser.add_argument("second", type=Path, help="the same of a later run")

    def update(given: dict[str, Path]) -> None:
        page = given["root"] / PAGE
        inside = block(pages.load(given["first"]), pages.load(given["second"]))
        page.write_text(
            pages.replace(pages.read(page), inside, "ranks", f"{PAGE}"), encoding="utf-8"
        )

    return pages.run(parser, arguments, update)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
