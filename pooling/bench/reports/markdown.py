"""A run's tables as Markdown, for an issue or a page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pooling.formatting import one_line

from . import layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pooling.bench.results import Document

# What could end a cell, begin a tag or a link, or format.
SPECIAL = re.compile(r"([\\`*_\[\]<>|~#!&])")


def render(document: Document) -> str:
    """Return a document as GitHub-flavoured Markdown."""
    parts = ["# Benchmark"]
    for table in layout.tables(document):
        parts.append(f"## {escape(table.title)}")
        for section in table.sections:
            parts.append(f"**{escape(section.label)}**")
            parts.append(pipes(["contender", *layout.COLUMNS], section.rows))
    if notes := [f"- **{kind}**: {escape(text)}" for kind, text in layout.notes(document)]:
        parts.append("## Notes\n\n" + "\n".join(notes))
    contenders = layout.contenders(document)
    parts.append("## Contenders\n\n" + pipes(["name", "version", "level", "how"], contenders, 4))
    parts += facts(layout.facts(document))
    parts.append(escape(layout.legend(document)))
    return "\n\n".join(parts) + "\n"


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
    rule = ["---" if place < text_columns else "---:" for place in range(len(header))]
    lines = [list(map(escape, header)), rule]
    lines += [list(row if escaped else map(escape, row)) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Return a text that Markdown shows as it is, in one line."""
    plain = SPECIAL.sub(r"\\\1", one_line(text))
    return plain.replace("\\<", "&lt;").replace("\\>", "&gt;")
