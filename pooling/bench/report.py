"""What was measured, for people and for programs."""

from __future__ import annotations

import io
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from .statistics import Ratio, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .runner import Connections, Measurement, Plan, Result

JSON_SCHEMA = 1
UNCLEAR = " ?"


@dataclass(frozen=True, slots=True)
class Row:
    """One operation with all contenders' medians, in seconds, and ratios against the first."""

    threads: int
    operation: str
    medians: Mapping[str, float]
    ratios: Mapping[str, Ratio]


def rows(measurements: Iterable[Measurement]) -> list[Row]:
    """Bring the contenders' measurements of the same thing together."""
    together: dict[tuple[int, str], dict[str, Measurement]] = {}
    for measured in measurements:
        key = (measured.threads, measured.operation)
        together.setdefault(key, {})[measured.contender] = measured
    found = []
    for (threads, operation), by_contender in together.items():
        baseline, *others = by_contender.values()
        found.append(
            Row(
                threads,
                operation,
                {name: median(each.seconds) for name, each in by_contender.items()},
                {each.contender: ratio(baseline.seconds, each.seconds) for each in others},
            )
        )
    return found


def table(result: Result) -> tuple[list[str], list[list[str]]]:
    """Return the header and the cells of a result's table."""
    found = rows(result.measurements)
    contenders = list(found[0].medians)
    header = ["threads", "operation", *(f"{name} ms" for name in contenders)]
    header += [f"{name} is faster by" for name in contenders[1:]]
    cells = []
    for row in found:
        line = [str(row.threads), row.operation]
        line += [milliseconds(row.medians[name]) for name in contenders]
        line += [factor(each) for each in row.ratios.values()]
        cells.append(line)
    return header, cells


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.3f}"


def factor(found: Ratio) -> str:
    """Return a ratio with its 95 % interval, or a word where the rounds do not tell."""
    value, low, high = (
        f"{each:.2f}" if each < 2 else f"{each:.1f}" if each < 20 else f"{each:,.0f}"
        for each in (found.value, found.low, found.high)
    )
    return f"{value} x ({low} - {high}){'' if found.is_clear else UNCLEAR}"


def connection_lines(connections: Iterable[Connections]) -> list[str]:
    """Say in words how many connections each side made."""
    lines = []
    for each in connections:
        threads = "1 thread" if each.threads == 1 else f"{each.threads} threads"
        limit = f" (max_size {each.limit})" if each.limit else ""
        made = "1 connection" if each.opened == 1 else f"{each.opened:,} connections"
        lines.append(
            f"{each.contender}, {threads}: {made} opened, at most {each.peak} at once{limit}"
        )
    return lines


def render(
    results: Sequence[Result],
    environment: Mapping[str, str],
    plan: Plan,
    *,
    width: int | None = None,
) -> str:
    """Return the report: with `width` for a terminal that wide, if rich is there, else plain
    text."""
    head = [f"{name}: {value}" for name, value in environment.items()]
    head.append(
        f"medians of {plan.rounds} rounds of {plan.iterations} operations, each a request with "
        "a connection of its own;"
    )
    head.append(
        f"in brackets 95 % intervals, with{UNCLEAR} where the rounds do not tell them apart"
    )
    parts = ["\n".join(head)]
    for result in results:
        lines = "\n".join(connection_lines(result.connections))
        parts.append(f"{render_table(result, width)}\n{lines}")
    return "\n\n".join(parts)


def render_table(result: Result, width: int | None = None) -> str:
    """Return one arena's table."""
    title = result.measurements[0].arena
    header, cells = table(result)
    if width is not None:
        try:
            return _render_rich(title, header, cells, width)
        except ImportError:  # colours are a nicety
            pass
    return _render_plain(title, header, cells)


def _render_plain(title: str, header: list[str], cells: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in (header, ["-" * width for width in widths], *cells)
    ]
    return "\n".join([title, *lines])


def _render_rich(title: str, header: list[str], cells: list[list[str]], width: int) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, title_justify="left", title_style="bold")
    for name in header:
        drawn.add_column(name, justify="right")
    for number, line in enumerate(cells):
        new_threads = number + 1 < len(cells) and cells[number + 1][0] != line[0]
        drawn.add_row(*(Text(cell, _style(cell)) for cell in line), end_section=new_threads)
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    with console.capture() as capture:
        console.print(drawn)
    return capture.get().rstrip("\n")


def _style(cell: str) -> str:
    return "yellow" if cell.endswith(UNCLEAR) else "bold" if " x " in cell else ""


def as_json(
    results: Sequence[Result], environment: Mapping[str, str], plan: Plan
) -> dict[str, Any]:
    """Return everything as data; times are medians in milliseconds per operation."""
    entries = []
    for result in results:
        counts = {(each.threads, each.contender): each for each in result.connections}
        found = {(row.threads, row.operation): row for row in rows(result.measurements)}
        for measured in result.measurements:
            row = found[measured.threads, measured.operation]
            each = row.ratios.get(measured.contender, Ratio(1.0, 1.0, 1.0, len(measured.seconds)))
            count = counts[measured.threads, measured.contender]
            middle = row.medians[measured.contender]
            entries.append(
                {
                    "database": measured.arena,
                    "contender": measured.contender,
                    "workload": measured.workload,
                    "operation": measured.operation,
                    "threads": measured.threads,
                    "ms_per_operation": middle * 1000,
                    "rounds_ms": [seconds * 1000 for seconds in measured.seconds],
                    "connections_opened": count.opened,
                    "connections_peak": count.peak,
                    "ratio": each.value,
                    "ratio_low": each.low,
                    "ratio_high": each.high,
                }
            )
    return {
        "schema": JSON_SCHEMA,
        "environment": {
            **environment,
            "rounds": plan.rounds,
            "iterations": plan.iterations,
            "pool_size": plan.pool_size,
            "seed": plan.seed,
        },
        "results": entries,
    }
