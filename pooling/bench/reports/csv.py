"""A run's results as CSV: one row for each, columns that do not change."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pooling.bench.results import Document

COLUMNS = (
    *("database", "contender", "workload", "operation", "threads", "sweep", "sweep_value"),
    *("ops_per_second", "p50_ms", "p95_ms", "p99_ms", "max_ms"),
    *("connections_opened", "peak_connections", "errors", "operations", "rounds", "fairness"),
    *("wait_share", "baseline", "ratio", "ratio_low", "ratio_high", "level", "note"),
)


def render(document: Document) -> str:
    """Return a document's results as CSV; what is not known is an empty cell."""
    levels = {each["name"]: each["level"] for each in document["contenders"]}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in document["results"]:
        sweep = each["sweep"]
        row: dict[str, object] = {
            **each,
            "level": levels[each["contender"]],
            "sweep": sweep and sweep["name"],
            "sweep_value": sweep and sweep["value"],
        }
        writer.writerow([cell(row[column]) for column in COLUMNS])
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
