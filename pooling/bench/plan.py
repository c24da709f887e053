"""The plan of a run: what is measured, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from .adapters.base import MYSQL, POSTGRESQL, SIMULATED, SQLITE
from .contenders import CONTENDERS
from .statistics import ENOUGH_ROUNDS
from .workloads import WORKLOADS, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .contenders import Contender

# Warming up: connections, caches and prepared statements are there after so many operations.
WARM_UP = 64

POOL_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)

USUAL = {
    POSTGRESQL: ("crud", "contention"),
    MYSQL: ("crud", "contention"),
    SQLITE: ("crud",),
    # The first experiment of all: 1,000 operations would take minutes, so there are fewer.
    SIMULATED: ("read", "exhaustion"),
}
"""What is measured at a database if no workload is chosen."""

SweepName = Literal["iterations", "pool-size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Workloads with one number of threads, for all contenders in turns.

    Attributes:
        workloads: done one after the other in each turn, with the same connections.
        iterations: operations of a turn, if it is not ended by the clock.
        seconds: how long a turn takes, shared out among the workloads' operations.
        cold: every turn begins without connections.
        rounds: how often each contender has its turn.
        warm_up: whether there is a round before these that does not count.
        usual_only: whether only those contenders take part that are usual at a database.
    """

    workloads: tuple[Workload, ...]
    threads: int
    pool_size: int
    rounds: int
    iterations: int = 1
    seconds: float | None = None
    rate: float | None = None
    cold: bool = False
    warm_up: bool = True
    timeout: float = 30.0
    sweep: dict[str, Any] | None = None
    usual_only: bool = False

    @property
    def title(self) -> str:
        return ", ".join(each.name for each in self.workloads)

    @property
    def trials(self) -> int:
        """Turns of each contender."""
        return self.rounds + self.warm_up

    def seconds_of(self, workload: Workload) -> float | None:
        """Return a workload's part of a turn."""
        phases = sum(len(each.phases) for each in self.workloads)
        return self.seconds and self.seconds * workload.longer * len(workload.phases) / phases

    def admits(self, contender: Contender, vendor: str) -> bool:
        """Whether a contender can do this."""
        if vendor not in (contender.usual if self.usual_only else contender.vendors):
            return False
        if self.sweep is not None and self.sweep["name"] == "pool-size" and not contender.has_pool:
            return False
        if not {each.kind for each in self.workloads} <= set(contender.kinds):
            return False
        names = {each.name for each in self.workloads}
        if self.usual_only and contender.only and not names & set(contender.only):
            return False
        return contender.most_threads is None or self.threads <= contender.most_threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured. Most attributes are options: `arguments.VALUES` says what they mean.

    Attributes:
        workloads: what the contenders do; None for what is usual at each database.
        baseline: the contender that ratios refer to; None for the first of each driver.
        iterations, threads, pool_size: None for what suits the workload.
        grace: seconds that a trial may take beyond what it has to.
    """

    contenders: tuple[Contender, ...] = tuple(CONTENDERS.values())
    workloads: tuple[Workload, ...] | None = None
    baseline: str | None = None
    rounds: int = ENOUGH_ROUNDS
    duration: float = 2.0
    iterations: int | None = None
    threads: tuple[int, ...] | None = None
    pool_size: int | None = None
    rate: tuple[int, ...] = ()
    timeout: float = 0.5
    rtt: float = 0.0
    health_checks: bool = False
    sweep: SweepName | None = None
    quick: bool = False
    pin: bool = False
    usual_only: bool = False
    seed: int = 1
    simulated_open: float = 0.1
    simulated_query: float = 0.01
    simulated_unhealthy: float = 0.05
    grace: float = 30.0

    def cells(self, vendor: str) -> list[Cell]:
        """Return what is measured at a database."""
        return list(self._swept(vendor) if self.sweep or self.rate else self._cells(vendor))

    def trials(self, vendor: str) -> int:
        """Return the number of turns at a database, if no contender fails."""
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
        private = ("contenders", "workloads", "grace", "rtt", "usual_only")
        names = [each.name for each in fields(self) if each.name not in private]
        return {
            "workload": [each.name for each in self.workloads] if self.workloads else None,
            "contender": [each.name for each in self.contenders],
            "rtt_ms": self.rtt * 1000,
            **{name: getattr(self, name) for name in names},
        }

    def _workloads(self, vendor: str) -> Sequence[Workload]:
        return self.workloads or [WORKLOADS[name] for name in USUAL[vendor]]

    def _cells(self, vendor: str) -> Iterator[Cell]:
        """Yield cells; steady workloads with the same threads and pools share their turns."""
        together: dict[tuple[int, int], list[Workload]] = {}
        for workload in self._workloads(vendor):
            pool_size = self.pool_size or workload.pool_size or 4
            for threads in self._threads_for(workload, pool_size):
                if workload.kind in ("steady", "own"):
                    together.setdefault((threads, pool_size), []).append(workload)
                    continue
                changes: dict[str, Any] = {"seconds": None, "cold": True}
                if workload.kind == "exhaustion":
                    changes |= {"rounds": 1, "warm_up": False, "timeout": self.timeout}
                yield self._cell([workload], threads, pool_size, **changes)
        for (threads, pool_size), workloads in together.items():
            changes = {}
            if vendor == SIMULATED:
                # Opening takes its time and counts: 100 operations by default, in all rounds.
                few = self.iterations or max(1, round(100 / self.rounds))
                changes = {"iterations": few, "seconds": None, "warm_up": False}
            yield self._cell(workloads, threads, pool_size, **changes)

    def _cell(
        self, workloads: Sequence[Workload], threads: int, pool_size: int, **changes: Any
    ) -> Cell:
        cell = Cell(
            workloads=tuple(workloads),
            threads=threads,
            pool_size=pool_size,
            rounds=self.rounds,
            iterations=self.iterations or 1,
            seconds=None if self.iterations else self.duration,
            usual_only=self.usual_only,
        )
        return replace(cell, **changes)

    def _threads_for(self, workload: Workload, pool_size: int) -> tuple[int, ...]:
        if workload.kind == "exhaustion":
            return (pool_size + 1,)
        threads = self.threads or (workload.threads or 8,)
        if workload.crowded:
            return tuple(each for each in threads if each > pool_size) or (4 * pool_size,)
        return threads

    def _swept(self, vendor: str) -> Iterator[Cell]:
        """Yield cells that differ in one number: the iterations, the pool's size, or the rate."""
        default = "read" if self.sweep == "iterations" else "contention"
        for workload in self.workloads or (WORKLOADS[default],):
            pool_size = self.pool_size or workload.pool_size or 4
            threads = self._threads_for(workload, pool_size)
            if self.sweep == "iterations":
                for value in self._numbers_of_operations(60 if vendor == SIMULATED else 1000):
                    sweep = {"name": "iterations", "value": value}
                    changes = {"iterations": value, "seconds": None, "cold": True, "warm_up": False}
                    few = self.threads[0] if self.threads else 1
                    yield self._cell([workload], few, pool_size, sweep=sweep, **changes)
            elif self.rate:
                for value in self.rate:
                    sweep = {"name": "rate", "value": value}
                    yield self._cell([workload], threads[0], pool_size, sweep=sweep, rate=value)
            else:
                most = max(self.threads or (workload.threads or 32,))
                for value in POOL_SIZES:
                    if value <= max(most, self.pool_size or 0):
                        sweep = {"name": "pool-size", "value": value}
                        yield self._cell([workload], most, value, sweep=sweep)

    def _numbers_of_operations(self, usual: int) -> list[int]:
        """Return 1, 2, 5, 10 and so on, up to and with the given number."""
        most = self.iterations or usual
        numbers = [step * 10**power for power in range(7) for step in (1, 2, 5)]
        return sorted({*(each for each in numbers if each < most), most})
