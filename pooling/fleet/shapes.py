"""What a snapshot looks like, to tell one from whatever else may be in the cache.

Another version of this package may have written it, in the middle of a deployment, or anybody who
can write to the cache. Whoever reads snapshots relies on their shape, so others are left out.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pooling.core.config import PoolConfig
from pooling.core.histogram import BUCKETS
from pooling.core.stats import PoolStats
from pooling.fleet.history import COLUMNS
from pooling.fleet.snapshots import QUANTILES

Shape = Any
"""An example: a number for a number, a text for a text, `ANY` for what nobody calculates with, a
list of one example, a mapping of keys that have to be there. `Maybe` allows None as well."""

ANY = object()


@dataclasses.dataclass(frozen=True)
class Maybe:
    """A shape, or None."""

    shape: Shape


DURATIONS = {"count": 0, "seconds": 0, "buckets": [0], **dict.fromkeys(QUANTILES, Maybe(0))}
STATS = {
    **{field.name: 0 for field in dataclasses.fields(PoolStats)},
    "name": "",
    "waits": DURATIONS,
    "holds": DURATIONS,
    "discards": {},
    "last_error": Maybe(""),
}
HISTORY = {"every": 0, "last": 0, **{name: [Maybe(0)] for name in COLUMNS}}
HOLDER = {"thread": "", "seconds": 0, "note": Maybe(""), "stack": Maybe("")}
POOL = {
    **dict.fromkeys(("name", "vendor", "database", "host", "port", "user"), ""),
    "aliases": [""],
    "options": {field.name: ANY for field in dataclasses.fields(PoolConfig)},
    "stats": STATS,
    "holders": [HOLDER],
    "more_holders": 0,
    "history": Maybe(HISTORY),
}
SNAPSHOT = {
    **dict.fromkeys(("id", "host", "command", "python"), ""),
    **dict.fromkeys(("pid", "started", "time", "threads"), 0),
    "pools": [POOL],
}


def is_snapshot(data: object) -> bool:
    """Tell whether data from the cache has the shape of a snapshot of this version."""
    return _has_shape(data, SNAPSHOT) and not any(
        len(pool["stats"][name]["buckets"]) > BUCKETS
        for pool in data["pools"]  # type: ignore[index]
        for name in ("waits", "holds")
    )


def _has_shape(data: object, shape: Shape) -> bool:
    if shape is ANY:
        return True
    if isinstance(shape, Maybe):
        return data is None or _has_shape(data, shape.shape)
    if isinstance(shape, dict):
        return isinstance(data, dict) and all(
            key in data and _has_shape(data[key], part) for key, part in shape.items()
        )
    if isinstance(shape, list):
        return isinstance(data, list) and all(_has_shape(item, shape[0]) for item in data)
    if isinstance(shape, str):
        return isinstance(data, str)
    return isinstance(data, (int, float)) and math.isfinite(data)
