"""A run's tables for a terminal, and as aligned plain text for everything else."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import words
from .document import LEVELS, by_level, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TextIO

    from .document import Group, Report, Result

WIDTH = 118
NAME_WIDTH = 32
RATIO = "x baseline"
ERRORS = "errors"
# What a narrow terminal has no room for, first things first.
EXPENDABLE = ("max ms", "p95 ms", "fair", "opened", "p50 ms")
COLUMNS = ("ops/s", RATIO, "p50 ms", "p95 ms", "p99 ms", "max ms", "opened", "fair", ERRORS)


@dataclass(slots=True)
class Table:
    """What a table shows, before it is drawn; a section is a label and its rows."""

    title: str
    header: list[str]
    sections: list[tuple[str, list[list[str]]]] = field(default_factory=list)
    baselines: set[tuple[int, int]] = field(default_factory=set)


def render(document: Mapping[str, object], stream: TextIO) -> None:
    """Write a document's tables to a stream: drawn with rich on a terminal that has it, else
    plain."""
    report = read(document)
    found = tables(report)
    if stream.isatty():
        try:
            _write_rich(found, report, stream)
        except ImportError:  # colours are a nicety
            pass
        else:
            return
    _write_plain(found, report, stream)


def tables(report: Report) -> list[Table]:
    """Return a table for each database, workload and number of threads, and for each sweep."""
    found = [_of_group(report, group) for group in report.groups()]
    for (database, workload, threads, knob), results in report.sweeps().items():
        title = f"{database} · {report.workload_title(workload)} · {words.threads(threads)}"
        table = Table(f"{title} · by {knob}", ["", *COLUMNS])
        values = dict.fromkeys((each.sweep or ("", 0))[1] for each in results)
        for value in values:
            rows = [each for each in results if (each.sweep or ("", 0))[1] == value]
            _add_section(table, report, f"{knob} {value:,}", rows)
        found.append(table)
    return found


def _of_group(report: Report, group: Group) -> Table:
    workload = report.workload_title(group.workload)
    table = Table(f"{group.database} · {workload} · {words.threads(group.threads)}", ["", *COLUMNS])
    levels = by_level(group.results)
    for operation in group.operations:
        for level, results in levels:
            rows = [each for each in results if each.operation == operation]
            labels = [operation] if len(group.operations) > 1 else []
            labels += [LEVELS.get(level, level)] if len(levels) > 1 else []
            if rows:
                _add_section(table, report, ", ".join(labels), rows)
    return table


def _add_section(table: Table, report: Report, label: str, rows: Sequence[Result]) -> None:
    for place, each in enumerate(rows):
        if each.baseline:
            table.baselines.add((len(table.sections), place))
    table.sections.append((label, [cells(report, each) for each in rows]))


def cells(report: Report, each: Result) -> list[str]:
    """Return a row: the contender and a cell for each of `COLUMNS`."""
    return [
        report.title(each.contender),
        words.short(each.ops_per_second),
        words.ratio(each),
        *map(words.short, (each.p50_ms, each.p95_ms, each.p99_ms, each.max_ms)),
        words.count(each.connections_opened),
        words.UNKNOWN if each.fairness is None else f"{each.fairness:.2f}",
        words.count(each.errors),
    ]


def remarks(report: Report) -> list[tuple[str, str]]:
    """Return what belongs below the tables: kinds and texts."""
    found = [("warning", each) for each in report.warnings]
    for each in report.results:
        if each.note:
            where = f"{each.database}, {each.workload}, {words.threads(each.threads)}"
            found.append(("note", f"{report.title(each.contender)} ({where}): {each.note}"))
    found += [("left out", f"{name}: {reason}") for name, reason in report.left_out]
    return list(dict.fromkeys(found))


def legend(report: Report) -> str:
    """Say what the columns mean."""
    if not report.results:
        return "Nothing was measured."
    seconds = f" The run took {words.short(report.duration)} s." if report.duration else ""
    return (
        f"{RATIO}: times the baseline's operations per second, with a 95 % interval; ? where the "
        "rounds do not tell them apart. opened: connections at the server. fair: Jain's index over "
        f"the threads, 1 is even.{seconds}"
    )


def wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False) + "\n"


def _write_plain(found: Sequence[Table], report: Report, stream: TextIO) -> None:
    parts = ["\n".join(_plain(table)) + "\n\n" for table in found]
    parts += [wrap(f"{kind}: {text}", "    ") for kind, text in remarks(report)]
    parts.append(wrap(legend(report)))
    # A pipe may be in an encoding that lacks some of the signs.
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write("".join(parts).encode(encoding, "replace").decode(encoding))


def _plain(table: Table) -> list[str]:
    rows = [table.header, *(row for _label, rows in table.sections for row in rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rest = sum(widths[1:]) + 2 * len(widths[1:])
    widths[0] = max(8, min(widths[0], WIDTH - rest))

    def line(row: Sequence[str]) -> str:
        name = crop(row[0], widths[0]).ljust(widths[0])
        others = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        return "  ".join([name, *others]).rstrip()

    lines = [crop(table.title, WIDTH), line(table.header)]
    lines.append("  ".join("-" * width for width in widths))
    for label, section in table.sections:
        lines += [crop(f"[{label}]", WIDTH)] if label else []
        lines += [line(row) for row in section]
    return lines


def crop(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _write_rich(found: Sequence[Table], report: Report, stream: TextIO) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    for table in found:
        console.print(_rich(table, console.width))
        console.print()
    styles = {"warning": "bold yellow", "left out": "dim", "note": ""}
    for kind, text in remarks(report):
        console.print(Text.assemble((f"{kind}: ", styles[kind] or "bold"), text))
    console.print(Text(legend(report), style="dim"))


def _rich(table: Table, width: int) -> Any:
    from rich import box
    from rich.table import Table as Drawing
    from rich.text import Text

    shown = fitting(table, width)
    drawn = Drawing(
        title=Text(table.title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
    )
    drawn.add_column("", no_wrap=True, overflow="ellipsis")
    for place in shown:
        drawn.add_column(Text(table.header[place]), justify="right", no_wrap=True)
    for number, (label, rows) in enumerate(table.sections):
        if label:
            drawn.add_row(Text(label, style="italic dim"))
        for place, row in enumerate(rows):
            base = (number, place) in table.baselines
            styled = [Text(row[0], style="" if base else "bold")]
            styled += [
                Text(row[each], style=_style(table.header[each], row[each])) for each in shown
            ]
            drawn.add_row(*styled, end_section=place == len(rows) - 1)
    return drawn


def fitting(table: Table, width: int) -> list[int]:
    """Return the columns there is room for beside the names, on a narrow terminal not all."""
    rows = [table.header, *(row for _label, rows in table.sections for row in rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    labels = [len(label) for label, _rows in table.sections]
    shown = list(range(1, len(widths)))
    for name in EXPENDABLE:
        if (
            min(NAME_WIDTH, max([widths[0], *labels])) + sum(widths[each] + 2 for each in shown)
            < width
        ):
            break
        shown.remove(table.header.index(name))
    return shown


def _style(name: str, cell: str) -> str:
    if name == ERRORS:
        return "bold white on red" if cell not in ("0", words.UNKNOWN) else "dim"
    if name == RATIO:
        return "cyan" if cell == "baseline" else "yellow" if cell.endswith("?") else "bold"
    return ""
