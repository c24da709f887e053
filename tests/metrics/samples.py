"""Snapshots in the format of `pooling.fleet`, with any numbers."""

from __future__ import annotations

from typing import Any

from pooling import DiscardReason
from pooling.core.histogram import Histogram
from pooling.fleet.snapshots import durations


def measured(*seconds: float) -> dict[str, Any]:
    """Return durations in the form of a snapshot."""
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    return durations(histogram.snapshot())


def pool(name: str = "default", **stats: Any) -> dict[str, Any]:
    """Return a pool of a snapshot: 10 places, 3 leased, 2 idle, no caller waiting."""
    numbers = {
        "name": name,
        "min_size": 1,
        "max_size": 10,
        "size": 5,
        "idle": 2,
        "leased": 3,
        "connecting": 0,
        "waiting": 0,
        "max_wait": 0.0,
        "suspended": False,
        "closed": False,
        "acquired": 0,
        "waited": 0,
        "waits": measured(),
        "holds": measured(),
        "opens": measured(),
        "timeouts": 0,
        "rejected": 0,
        "connects": 0,
        "connect_errors": 0,
        "recovered": 0,
        "replayed": 0,
        "outage": None,
        "last_error": None,
        "last_error_age": None,
        "discards": {str(reason): 0 for reason in DiscardReason},
        "pins": {},
        "budget": None,
    }
    return {
        "id": f"id of {name}",
        "name": name,
        "aliases": [name],
        "vendor": "postgresql",
        "database": "shop",
        "host": "",
        "port": "",
        "user": "",
        "options": {},
        "configured": {"min_size": 1, "max_size": 10},
        "stats": {**numbers, **stats},
        "holders": [],
        "disruptions": ["cancel"],
        "more_holders": 0,
        "queue": [],
        "recent": [],
        "held": {},
    }


def holder(note: str | None, seconds: float, thread: str = "Thread-1") -> dict[str, Any]:
    """Return a lease of a snapshot."""
    about = {"thread": thread, "seconds": seconds, "note": note}
    return {**about, "id": "1", "pinned": None, "stack": None}


def process(
    *pools: dict[str, Any], pid: int = 1, host: str = "web1", time: float = 1000.0
) -> dict[str, Any]:
    """Return a process of the fleet."""
    return {
        "id": f"{host}:{pid}",
        "host": host,
        "pid": pid,
        "command": "gunicorn",
        "python": "3.11.0",
        "started": 0.0,
        "time": time,
        "threads": 1,
        "age": 0.0,
        "silent": False,
        "left": False,
        "done": [],
        "pools": list(pools),
    }
