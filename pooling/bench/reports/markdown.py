"""A run's verdict and tables as Markdown, for an issue or a page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pooling.formatting import one_line

from . import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pooling.bench.results import Document

# What could end a cell, begin a tag or a link, or format.
SPECIAL = re.compile(r"([\\`*_\[\]<>|~#!&])")


def render(document: Document) -> str:
    """Return a document as GitHub-flavoured Markdown: the verdict first."""
    lines = "\n".join(f"- {escape(each)}" for each in document["verdict"])
    return f"# Benchmark\n\n{lines}\n\n{details(document)}"


def details(document: Document) -> str:
    """Return all but the verdict, with aligned columns, so that a terminal can show it, too."""
    parts = []
    for table in layout.tables(document):
        parts.append(f"## {escape(table.title)}")
        parts += [pipes([each.label, *layout.COLUMNS], each.rows) for each in table.sections]
        if knees := layout.knees(document, table):
            parts.append(_list(map(": ".join, knees)))
    if notes := layout.notes(document):
        parts.append("## Notes\n\n" + _list(map(": ".join, notes)))
    rows = layout.fairness(document)
    parts.append("## Fairness\n\n" + pipes(layout.FAIRNESS, rows, len(layout.FAIRNESS)))
    parts.append(_list(layout.inequalities(document)))
    parts += facts(layout.facts(document))
    parts.append(escape(layout.legend(document)))
    return "\n\n".join(each for each in parts if each) + "\n\n"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape(each)}" for each in lines)


def facts(sections: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> list[str]:
    """Return named values as lists under their titles."""
    return [
        f"## {title}\n\n" + "\n".join(f"- {escape(name)}: {escape(each)}" for name, each in values)
        for title, values in sections
    ]


def pipes(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    text_columns: int = 1,
    *,
    escaped: bool = False,
) -> str:
    """Return a table; all columns after the first few are numbers and stand to the right.

    Args:
        escaped: whether the rows are Markdown already.
    """
    lines = [list(map(escape, header))]
    lines += [list(row if escaped else map(escape, row)) for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        [
            cell.ljust(width) if place < text_columns else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    rule = ["-" * (width - 1) + "-:"[place >= text_columns] for place, width in enumerate(widths)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (aligned[0], rule, *aligned[1:]))


def escape(text: str) -> str:
    """Return a text that Markdown shows as it is, in one line."""
    plain = SPECIAL.sub(r"\\\1", one_line(text))
    return plain.replace("\\<", "&lt;").replace("\\>", "&gt;")
