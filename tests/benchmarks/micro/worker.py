"""A probe in a process of its own, and how the benchmark talks to it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from pooling.bench.processes import CLOSE_TIMEOUT, WorkerProcess
from pooling.bench.worker import main as serve

if TYPE_CHECKING:
    from pooling.bench.worker import Handshake

TRIAL_TIMEOUT = 60.0


class ProbeServer:
    """Runs a probe in its process."""

    def __init__(self, handshake: Handshake) -> None:
        self._class = handshake.load()
        self._probe: Any = None

    def open(self, options: dict[str, Any]) -> None:
        """Get everything ready."""
        self._probe = self._class(**options)
        gc.collect()
        gc.freeze()

    def trial(self, number: int) -> dict[str, float]:
        """Do something so many times; return what was measured."""
        gc.collect()
        found: dict[str, float] = self._probe.trial(number)
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
        self.ask(TRIAL_TIMEOUT, "open", options)

    def trial(self, number: int) -> dict[str, float]:
        """Do something so many times; return what was measured."""
        found: dict[str, float] = self.ask(TRIAL_TIMEOUT, "trial", number)
        return found

    def close(self) -> None:
        """Clear away."""
        self.ask(CLOSE_TIMEOUT, "close")


def main() -> None:
    """Serve until the parent hangs up."""
    serve(ProbeServer)
