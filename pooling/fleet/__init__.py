"""The fleet: pool snapshots of all processes, and commands to all of them.

Each process writes a snapshot of its pools to Django's cache, reads those of the others, and runs
the commands it finds there. All of it is background work: no request waits for it.
"""

from __future__ import annotations

from pooling.fleet.cache_store import Fleet, FleetError, processes, read_all, sees_one_process
from pooling.fleet.commands import ACTIONS, check, send
from pooling.fleet.publisher import PUBLISHER
from pooling.fleet.snapshots import snapshot

__all__ = [
    "ACTIONS",
    "PUBLISHER",
    "Fleet",
    "FleetError",
    "check",
    "processes",
    "read_all",
    "sees_one_process",
    "send",
    "snapshot",
]
