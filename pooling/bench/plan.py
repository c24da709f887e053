"""The plan of a run: what is measured, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from .adapters.base import POSTGRESQL, SIMULATED
from .contenders import USUAL
from .workloads import WORKLOADS, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .contenders import Contender
    from .results import Sweep

# Warming up takes a part of a trial: connections, caches and prepared statements are there by then.
WARM_UP = 50

POOL_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)

SweepName = Literal["iterations", "pool-size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One workload with one number of threads, for all contenders in turns.

    Attributes:
        cold: every trial begins without connections.
        rounds: how often each contender does it.
        warm_up: whether there is a round before these that does not count.
    """

    workload: Workload
    threads: int
    iterations: int
    pool_size: int
    rounds: int
    seconds: float | None = None
    cold: bool = False
    warm_up: bool = True
    timeout: float = 30.0
    sweep: Sweep | None = None

    @property
    def trials(self) -> int:
        """Trials of each contender."""
        return self.rounds + self.warm_up

    def admits(self, contender: Contender, vendor: str) -> bool:
        """Whether a contender can do this."""
        if vendor not in contender.vendors:
            return False
        if self.sweep is not None and self.sweep["name"] == "pool-size" and not contender.has_pool:
            return False
        return contender.most_threads is None or self.threads <= contender.most_threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured. Most attributes are options: `arguments.VALUES` says what they mean.

    Attributes:
        workloads: what the contenders do; None for a choice that suits each database.
        usual: that choice for real databases.
        baseline: the contender that ratios refer to; None for the first at each database.
        threads: numbers of threads; `contention`, `spike` and `exhaustion` need more of them than
            there are connections, and take more if none of these is enough.
        haste: shortens the trials of workloads that are ended by the clock, if above 1.
        grace: seconds that a trial may take beyond what it has to.
    """

    contenders: tuple[Contender, ...] = USUAL
    workloads: tuple[Workload, ...] | None = None
    usual: tuple[Workload, ...] = tuple(WORKLOADS.values())
    baseline: str | None = None
    rounds: int = 5
    iterations: int = 200
    threads: tuple[int, ...] = (1, 8)
    pool_size: int = 4
    duration: float | None = None
    haste: float = 1.0
    timeout: float = 0.5
    rtt: float = 0.0
    health_checks: bool = False
    sweep: SweepName | None = None
    seed: int = 1
    simulated_open: float = 0.1
    simulated_query: float = 0.01
    simulated_unhealthy: float = 0.05
    grace: float = 30.0

    def cells(self, vendor: str) -> list[Cell]:
        """Return what is measured at a database."""
        return list(self._swept() if self.sweep else self._cells(vendor))

    def trials(self, vendor: str) -> int:
        """Return the number of trials at a database, if no contender fails."""
        return sum(
            cell.trials
            for cell in self.cells(vendor)
            for contender in self.contenders
            if cell.admits(contender, vendor)
        )

    def most_connections(self) -> int:
        """Return how many there can be at the same time, all contenders together."""
        return max(
            sum(cell.pool_size if each.has_pool else cell.threads for each in self.contenders)
            for cell in self.cells(POSTGRESQL)
        )

    def settings(self) -> dict[str, Any]:
        """Return the options by name, for the result document."""
        names = [each.name for each in fields(self)]
        private = ("contenders", "workloads", "usual", "haste", "grace", "rtt")
        return {
            "workload": [each.name for each in self.workloads] if self.workloads else None,
            "contender": [each.name for each in self.contenders],
            "rtt_ms": self.rtt * 1000,
            **{name: getattr(self, name) for name in names if name not in private},
        }

    def _cells(self, vendor: str) -> Iterator[Cell]:
        if vendor == SIMULATED and self.workloads is None:
            # Opening takes its time, so there are fewer operations: by default 100 in all rounds.
            # Nothing needs to warm up, and opening the first connection counts.
            few, read = max(1, self.iterations // 10), WORKLOADS["read"]
            yield self._cell(read, 1, iterations=few, seconds=self.duration, warm_up=False)
            return
        for workload in self.workloads or self.usual:
            exhaustion, counted = workload.kind == "exhaustion", workload.kind != "steady"
            changes = {
                **({"seconds": None, "cold": True} if counted else {}),
                **({"rounds": 1, "warm_up": False, "timeout": self.timeout} if exhaustion else {}),
            }
            for threads in self._threads_for(workload):
                yield self._cell(workload, threads, **changes)

    def _cell(self, workload: Workload, threads: int, **changes: Any) -> Cell:
        own = workload.seconds and workload.seconds / self.haste
        cell = Cell(
            workload=workload,
            threads=threads,
            iterations=self.iterations,
            pool_size=self.pool_size,
            rounds=self.rounds,
            seconds=self.duration or own,
        )
        return replace(cell, **changes)

    def _threads_for(self, workload: Workload) -> tuple[int, ...]:
        if workload.kind == "exhaustion":
            return (self.pool_size + 1,)
        if workload.crowded:
            enough = tuple(each for each in self.threads if each > self.pool_size)
            return enough or (4 * self.pool_size,)
        return self.threads

    def _swept(self) -> Iterator[Cell]:
        if self.sweep == "iterations":
            for workload in self.workloads or (WORKLOADS["read"],):
                for value in self._numbers_of_operations():
                    sweep: Sweep = {"name": "iterations", "value": value}
                    changes = {"iterations": value, "seconds": None, "cold": True}
                    yield self._cell(workload, min(self.threads), sweep=sweep, **changes)
            return
        threads = max(self.threads)
        for workload in self.workloads or (WORKLOADS["contention"],):
            for value in POOL_SIZES:
                if value <= max(threads, self.pool_size):
                    sweep = {"name": "pool-size", "value": value}
                    yield self._cell(workload, threads, pool_size=value, sweep=sweep)

    def _numbers_of_operations(self) -> list[int]:
        """Return 1, 2, 5, 10 and so on, up to and with the given number."""
        numbers = [step * 10**power for power in range(7) for step in (1, 2, 5)]
        return sorted({*(each for each in numbers if each < self.iterations), self.iterations})
