"""The result document: what a benchmark returns, what reports show, and what `--json` writes.

It is a plain dict of JSON values, described by `docs/poolbench.schema.json`. Within a schema's
number meanings do not change, and names may be added.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from .statistics import Ratio

SCHEMA = 2

# Which part of a contender stands between the measured code and the database.
Level = Literal["orm", "driver", "simulated"]

# The operation that sums up all the others of a workload.
TOTAL = "total"

Document: TypeAlias = dict[str, Any]
Result: TypeAlias = dict[str, Any]
"""What one contender did in one operation with one number of threads."""


def ratio_of(result: Result) -> Ratio | None:
    """Return a result's ratio to its baseline, if it has one with an interval."""
    value, low, high = result["ratio"], result["ratio_low"], result["ratio_high"]
    return None if value is None or low is None or high is None else Ratio(value, low, high)


def is_whole(result: Result) -> bool:
    """Whether a result is about a whole workload, and not about one of several operations."""
    return result["operation"] in (TOTAL, result["workload"])
