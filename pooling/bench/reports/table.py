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
        import rich.console  # noqa: F401
    except ImportError:
        write(stream, markdown.render(document))
    else:
        write(stream, _drawn(document, is_terminal=stream.isatty()))


def write(stream: TextIO, text: str) -> None:
    """Write a text, without the signs that the stream's encoding lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))


def _drawn(document: Document, *, is_terminal: bool) -> str:
    from rich.console import Console
    from rich.text import Text

    titles = layout.titles(document)
    screen = io.StringIO()
    console = Console(
        file=screen,
        force_terminal=is_terminal,
        width=None if is_terminal else WIDTH,
        highlight=False,
    )
    for table in layout.tables(document):
        console.print(_rich(table, titles, console.width, is_terminal=is_terminal))
        console.print()
    for kind, text in layout.notes(document):
        console.print(Text.assemble((f"{kind}: ", STYLES[kind]), text))
    console.print(Text(layout.legend(document), style="dim"))
    return screen.getvalue()


def _rich(table: layout.Table, titles: dict[str, str], width: int, *, is_terminal: bool) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = [
        [titles[each["contender"]], *layout.cells(each)]
        for section in table.sections
        for each in section.results
    ]
    shown = fitting([["", *layout.COLUMNS], *rows], width)
    drawn = Table(
        title=Text(table.title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD if is_terminal else box.ASCII2,
        pad_edge=False,
    )
    drawn.add_column("", overflow="fold", max_width=NAME_WIDTH)  # wrapped if need be
    for column in shown:
        drawn.add_column(Text(layout.COLUMNS[column - 1]), justify="right", no_wrap=True)
    left = iter(rows)
    for section in table.sections:
        drawn.add_row(Text(section.label, style="italic dim"))
        for each in section.results:
            row = next(left)
            cells = [Text(row[0], style="" if each["baseline"] else "bold")]
            cells += [Text(row[column], style=_style(column, row[column])) for column in shown]
            drawn.add_row(*cells, end_section=each is section.results[-1])
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


def _style(column: int, cell: str) -> str:
    name = layout.COLUMNS[column - 1]
    if name == layout.ERRORS:
        return "dim" if cell == "0" else "bold white on red"
    if name == layout.RATIO:
        return "cyan" if cell == "baseline" else "yellow" if cell.endswith("?") else "bold"
    return ""
