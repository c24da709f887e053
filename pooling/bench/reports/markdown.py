"""A run's tables as Markdown, for an issue or a page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import words
from .document import LEVELS, read
from .document import text as clean
from .table import COLUMNS, legend, remarks, tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Whatever could end a cell, begin a tag or a link, or format; a hyphen is only plain.
SPECIAL = re.compile(r"([\\`*_\[\]<>|~#!&])")


def render(document: Mapping[str, object]) -> str:
    """Return a document as GitHub-flavoured Markdown."""
    report = read(document)
    parts = ["# Benchmark"]
    for table in tables(report):
        parts.append(f"## {escape(table.title)}")
        for label, rows in table.sections:
            if label:
                parts.append(f"**{escape(label)}**")
            parts.append(pipes(["contender", *COLUMNS], rows))
    notes = [f"- **{kind}**: {escape(text)}" for kind, text in remarks(report)]
    if notes:
        parts.append("## Notes\n\n" + "\n".join(notes))
    if report.contenders:
        rows = [
            [each.title, each.version, LEVELS.get(each.level, each.level), each.how]
            for each in report.contenders.values()
        ]
        parts.append("## Contenders\n\n" + pipes(["name", "version", "level", "how"], rows, 4))
    known = {"Environment": report.environment, "Settings": report.settings}
    for title, values in known.items():
        if values:
            lines = [f"- {escape(str(k))}: {escape(plain(v))}" for k, v in values.items()]
            parts.append(f"## {title}\n\n" + "\n".join(lines))
    parts.append(escape(legend(report)))
    return "\n\n".join(parts) + "\n"


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
    places = range(len(header))
    rule = " | ".join("---" if place < text_columns else "---:" for place in places)
    lines = [" | ".join(map(escape, header)), rule]
    lines += [" | ".join(row if escaped else map(escape, row)) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def escape(text: str) -> str:
    """Return a text as it is to be read, in one line."""
    return (
        SPECIAL.sub(r"\\\1", " ".join(clean(text).split()))
        .replace("\\<", "&lt;")
        .replace("\\>", "&gt;")
    )


def plain(value: object) -> str:
    """Return a setting or a fact as people write it."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    if value is None:
        return words.UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
