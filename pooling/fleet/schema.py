"""Schema of a snapshot, to validate what is read from the cache.

An entry may have been written by another version of this package, during a deployment, or by
anything else with access to the cache. Readers rely on the schema, so other entries are ignored.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pooling.core.budget import BudgetUse
from pooling.core.config import PoolConfig
from pooling.core.histogram import BUCKETS
from pooling.core.stats import HISTOGRAMS, PoolStats
from pooling.fleet.archive import is_row
from pooling.fleet.snapshots import QUANTILES

Schema = Any
"""An example value: a number for a number, a string for a string, `ANY` for anything, a list of one
example, a mapping with the required keys. `Nullable` allows None as well."""

ANY = object()


@dataclasses.dataclass(frozen=True)
class Nullable:
    """A value of a schema, or None."""

    schema: Schema


DURATIONS = {"count": 0, "seconds": 0, "buckets": [0], **dict.fromkeys(QUANTILES, Nullable(0))}
STATS = {
    **{field.name: 0 for field in dataclasses.fields(PoolStats)},
    "name": "",
    **dict.fromkeys(HISTOGRAMS, DURATIONS),
    "discards": {},
    "pins": {},
    "budget": Nullable(dict.fromkeys(BudgetUse._fields, 0)),
    "outage": Nullable({"seconds": 0, "refused": 0, "next_attempt": Nullable(0), "answered": 0}),
    "last_error": Nullable(""),
    "last_error_age": Nullable(0),
}
CALLER = {"thread": "", "seconds": 0, "note": Nullable("")}
POOL = {
    **dict.fromkeys(("id", "name", "vendor", "database", "host", "port", "user"), ""),
    "aliases": [""],
    "options": {field.name: ANY for field in dataclasses.fields(PoolConfig)},
    "configured": {"min_size": 0, "max_size": 0},
    "stats": STATS,
    "holders": [{**CALLER, "id": "", "pinned": Nullable(""), "stack": Nullable("")}],
    "disruptions": [""],
    "more_holders": 0,
    "queue": [CALLER],
    "recent": [ANY],
    "held": {},
}
SNAPSHOT = {
    **dict.fromkeys(("id", "host", "command", "python"), ""),
    **dict.fromkeys(("pid", "started", "time", "threads", "left"), 0),
    "done": [""],
    "pools": [POOL],
}

COMMAND = {
    **dict.fromkeys(("id", "action", "pool", "user"), ""),
    "process": Nullable(""),
    "lease": Nullable(""),
    "configured": Nullable({"min_size": 0, "max_size": 0}),
    "time": 0,
    "arguments": {},
}


def is_command(data: object) -> bool:
    """Tell whether data from the cache is a command in the format of this version."""
    return _matches(data, COMMAND)


def is_snapshot(data: object) -> bool:
    """Tell whether data from the cache is a snapshot in the format of this version."""
    return _matches(data, SNAPSHOT) and all(
        all(len(pool["stats"][name]["buckets"]) <= BUCKETS for name in HISTOGRAMS)
        and all(map(is_row, pool["recent"]))
        and all(
            _matches(number, 0)
            for numbers in (pool["held"], pool["stats"]["discards"])
            for number in numbers.values()
        )
        for pool in data["pools"]  # type: ignore[index]
    )


def _matches(data: object, schema: Schema) -> bool:
    if schema is ANY:
        return True
    if isinstance(schema, Nullable):
        return data is None or _matches(data, schema.schema)
    if isinstance(schema, dict):
        return isinstance(data, dict) and all(
            key in data and _matches(data[key], part) for key, part in schema.items()
        )
    if isinstance(schema, list):
        return isinstance(data, list) and all(_matches(item, schema[0]) for item in data)
    if isinstance(schema, str):
        return isinstance(data, str)
    return isinstance(data, (int, float)) and math.isfinite(data)
