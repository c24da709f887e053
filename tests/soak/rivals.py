"""Other processes that share the budget of a run's pool, and are killed now and then."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.soak.monitor import Monitor

REPOSITORY = Path(__file__).resolve().parents[2]
END_SECONDS = 30.0
"""After which a process that was asked to end hangs."""


class Rival:
    """One of them."""

    def __init__(self, monitor: Monitor, entry: dict[str, Any]) -> None:
        self._monitor = monitor
        self._counts = [0, 0, 0]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.rival"],
            cwd=REPOSITORY,
            env={**os.environ, "SOAK_DATABASE": json.dumps(entry)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, name="rival", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        names = ("leases of rivals", "leases of rivals in calm", "failed leases of rivals")
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with suppress(json.JSONDecodeError):  # it was killed in the middle
                counts, problems = json.loads(line)
                for name, count, before in zip(names, counts, self._counts, strict=True):
                    self._monitor.counts[name] += count - before
                self._counts = counts
                for problem in problems:
                    self._monitor.report(problem)

    def begin_calm(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("calm\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self._wait()

    def end(self) -> None:
        """Ask it to end, and report if it does not end well."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            status = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._monitor.report("a rival does not end")
            self.process.kill()
        else:
            if status:
                self._monitor.report(f"a rival ended with status {status}")
        self._wait()

    def _wait(self) -> None:
        """Reap the process, and take its last report."""
        self.process.wait()
        self._listener.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


class Rivals:
    """So many processes with one entry for `DATABASES`; a context manager.

    Args:
        entry: its pool has a budget.
    """

    def __init__(self, monitor: Monitor, number: int, entry: dict[str, Any]) -> None:
        self._monitor = monitor
        self._entry = entry
        self._members = [Rival(monitor, entry) for _ in range(number)]
        self._killed_at = 0.0

    def number(self) -> int:
        """Return how many there are, with one whose end the server may not have noticed."""
        return len(self._members) + (time.monotonic() - self._killed_at < END_SECONDS)

    def kill_rival(self) -> None:
        """Kill a process, and start another one."""
        number = random.randrange(len(self._members))
        self._members[number].kill()
        self._killed_at = time.monotonic()
        self._members[number] = Rival(self._monitor, self._entry)

    def begin_calm(self) -> None:
        """Tell them that no faults come any more."""
        for member in self._members:
            member.begin_calm()

    def end(self) -> None:
        """End them all."""
        while self._members:
            self._members.pop().end()
