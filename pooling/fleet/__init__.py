"""What all processes know of each other's pools, and how to reach all of them.

Every process puts a snapshot of its pools into Django's cache; every process can read them all, and
can send orders to all. It is background work throughout: no request waits for it.
"""

from __future__ import annotations

from pooling.fleet.board import Fleet, FleetError, processes, see, sees_one_process
from pooling.fleet.orders import ACTIONS, check, send
from pooling.fleet.publisher import PUBLISHER
from pooling.fleet.snapshots import snapshot

__all__ = [
    "ACTIONS",
    "PUBLISHER",
    "Fleet",
    "FleetError",
    "check",
    "processes",
    "see",
    "sees_one_process",
    "send",
    "snapshot",
]
