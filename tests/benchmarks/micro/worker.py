"""A probe's own process, and how it is seen from the one that runs the benchmark."""

from __future__ import annotations

import gc
import logging
import sys
from typing import Any

from pooling.bench.processes import CLOSE_BOUND, WorkerProcess
from pooling.bench.worker import Handshake, find_class
from pooling.bench.worker import main as obey

TURN_BOUND = 60.0


class ProbeServer:
    """Where a probe works."""

    def __init__(self, handshake: Handshake) -> None:
        for name in handshake.blocked:
            sys.modules[name] = None  # type: ignore[assignment]
        logging.disable(logging.WARNING)  # watching takes time, and nobody would read it
        self._class = find_class(handshake.adapter)
        self._probe: Any = None

    def open(self, options: dict[str, Any]) -> None:
        """Get everything ready."""
        self._probe = self._class(**options)
        gc.collect()
        gc.freeze()

    def turn(self, number: int) -> dict[str, float]:
        """Do something so many times; return what was measured."""
        gc.collect()
        found: dict[str, float] = self._probe.turn(number)
        return found

    def close(self) -> None:
        """Clear away."""
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.close()


class ProbeProcess(WorkerProcess):
    """A probe in a process of its own."""

    program = "from tests.benchmarks.micro.worker import main; main()"

    def open(self, options: dict[str, Any]) -> None:
        """Get everything ready."""
        self._ask(TURN_BOUND, "open", options)

    def turn(self, number: int) -> dict[str, float]:
        """Do something so many times; return what was measured."""
        found: dict[str, float] = self._ask(TURN_BOUND, "turn", number)
        return found

    def close(self) -> None:
        """Clear away."""
        self._ask(CLOSE_BOUND, "close")


def main() -> None:
    obey(ProbeServer)
