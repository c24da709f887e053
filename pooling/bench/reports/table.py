"""A run's tables for a terminal or a pipe, drawn with rich."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from . import layout, markdown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

    from pooling.bench.results import Document

WIDTH = 128
"""Of a pipe, in columns."""

NAME_WIDTH = 36

DISPENSABLE = ("max ms", "p95 ms", "fair", "opened", "p50 ms")
"""The columns that a terminal which is too narrow does without, one after the other."""

STYLES = {"warning": "bold yellow", "left out": "dim", "note": "bold"}


def render(document: Document, stream: TextIO) -> None:
    """Write a document's tables to a stream; as Markdown if rich is not installed."""
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        write(stream, markdown.render(document))
        return
    is_terminal = stream.isatty()
    screen = io.StringIO()
    console = Console(
        file=screen,
        force_terminal=is_terminal,
        width=None if is_terminal else WIDTH,
        highlight=False,
    )
    for table in layout.tables(document):
        console.print(_drawn(table, console), end="\n\n")
    for kind, text in layout.notes(document):
        console.print(Text.assemble((f"{kind}: ", STYLES[kind]), text))
    console.print(Text(layout.legend(document), style="dim"))
    write(stream, screen.getvalue())


def write(stream: TextIO, text: str) -> None:
    """Write a text, without the signs that the stream's encoding lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))


def _drawn(table: layout.Table, console: Any) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    header = ("", *layout.COLUMNS)
    shown = fitting([header, *(row for each in table.sections for row in each.rows)], console.width)
    drawn = Table(
        title=Text(table.title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD if console.is_terminal else box.ASCII2,
        pad_edge=False,
    )
    drawn.add_column("", overflow="fold", max_width=NAME_WIDTH)  # wrapped if need be
    for place in shown:
        drawn.add_column(Text(header[place]), justify="right", no_wrap=True)
    for section in table.sections:
        drawn.add_row(Text(section.label, style="italic dim"))
        for name, *cells in section.rows:
            texts = [Text(cells[place - 1], style=_style(header[place], cells)) for place in shown]
            name_style = "" if layout.BASELINE in cells else "bold"
            drawn.add_row(Text(name, style=name_style), *texts)
        drawn.add_section()
    return drawn


def fitting(lines: Iterable[Sequence[str]], width: int) -> list[int]:
    """Return the columns there is room for beside the names."""
    widths = [max(map(len, column)) + 3 for column in zip(*lines, strict=True)]
    widths[0] = min(widths[0], NAME_WIDTH + 3)
    shown = list(range(1, len(widths)))
    for name in DISPENSABLE:
        if widths[0] + sum(widths[column] for column in shown) <= width:
            break
        shown.remove(layout.COLUMNS.index(name) + 1)
    return shown


def _style(column: str, cells: Sequence[str]) -> str:
    cell = cells[layout.COLUMNS.index(column)]
    if column == layout.ERRORS:
        return "dim" if cell == "0" else "bold white on red"
    if column == layout.RATIO:
        return "cyan" if cell == layout.BASELINE else "yellow" if cell.endswith("?") else "bold"
    return ""
