"""A probe in a process of its own, and how the benchmark talks to it."""

from __future__ import annotations

import gc
from typing import Any

from pooling.bench.processes import CLOSE_TIMEOUT, WorkerProcess, find_class

TRIAL_TIMEOUT = 60.0


class ProbeServer:
    """Runs a probe in its process."""

    def __init__(self, name: str) -> None:
        self._class = find_class(name)
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

    server = f"{__name__}:ProbeServer"

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
