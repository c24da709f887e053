"""A run's results as CSV: one row for each, columns that do not change."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from .document import read

if TYPE_CHECKING:
    from collections.abc import Mapping

COLUMNS = (
    "database",
    "contender",
    "workload",
    "operation",
    "threads",
    "sweep",
    "sweep_value",
    "ops_per_second",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "max_ms",
    "connections_opened",
    "peak_connections",
    "errors",
    "operations",
    "rounds",
    "fairness",
    "wait_share",
    "baseline",
    "ratio",
    "ratio_low",
    "ratio_high",
    "level",
    "note",
)


def render(document: Mapping[str, object]) -> str:
    """Return a document's results as CSV; what is not known is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in read(document).results:
        name, value = each.sweep or ("", None)
        row = [
            name
            if column == "sweep"
            else value
            if column == "sweep_value"
            else getattr(each, column)
            for column in COLUMNS
        ]
        writer.writerow([cell(value) for value in row])
    return out.getvalue()


def cell(value: object) -> object:
    """Return a value as a cell. A text that a spreadsheet would run as a formula is quoted."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value
