"""How much is measured, and in which portions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .contenders import SIMULATED, USUAL
from .adapters.base import Simulation
from .workloads import CONTENTION, READ, WORKLOADS, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .contenders import Contender
    from .results import Sweep

# Warming up takes a part of a turn: connections, caches and prepared statements are there by then.
WARM_UP = 50

STEPS = (1, 2, 5)
POOL_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)

SweepName = Literal["iterations", "pool-size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What all contenders do in turns: one workload with one number of threads.

    Attributes:
        cold: every turn begins without connections.
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
    def turns(self) -> int:
        """Turns of each contender."""
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
    """How much is measured.

    Attributes:
        contenders: who takes part.
        workloads: what they do; None for a choice that suits each database.
        usual: that choice for real databases.
        baseline: the contender that ratios refer to; None for the first at each database.
        rounds: how often each contender does each workload.
        iterations: operations in a round, shared out among the threads.
        threads: numbers of threads; `contention`, `spike` and `exhaustion` need more of them than
            there are connections, and take more if none of these is enough.
        pool_size: the most connections of each pool.
        duration: seconds that each turn takes, instead of a number of operations.
        haste: shortens the turns of workloads that are ended by the clock, if above 1.
        timeout: how long a pool may let a caller of `exhaustion` wait, in seconds.
        rtt: the time to a distant server and back, in seconds.
        health_checks: whether each connection is tested with a round trip before it is used.
        sweep: what is varied, if anything.
        seed: for the users' data, the bootstrap and the simulated database.
        bound: seconds that a turn may take beyond what it has to.
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
    simulation: Simulation = field(default_factory=Simulation)
    bound: float = 30.0

    def cells(self, vendor: str) -> list[Cell]:
        """Return what is measured at a database."""
        return list(self._swept() if self.sweep else self._cells(vendor))

    def turns(self, vendor: str) -> int:
        """Return the number of turns at a database, if nobody fails."""
        return sum(
            cell.turns
            for cell in self.cells(vendor)
            for contender in self.contenders
            if cell.admits(contender, vendor)
        )

    def most_connections(self) -> int:
        """Return how many there can be at the same time, all contenders together."""
        cells = [cell for vendor in ("postgresql",) for cell in self.cells(vendor)]
        return max(
            sum(
                cell.pool_size if contender.has_pool else cell.threads
                for contender in self.contenders
            )
            for cell in cells
        )

    def settings(self) -> dict[str, Any]:
        """Return the knobs by name, for the result document."""
        return {
            "workload": [each.name for each in self.workloads] if self.workloads else None,
            "contender": [contender.name for contender in self.contenders],
            "baseline": self.baseline,
            "rounds": self.rounds,
            "iterations": self.iterations,
            "threads": list(self.threads),
            "pool_size": self.pool_size,
            "duration": self.duration,
            "timeout": self.timeout,
            "rtt_ms": self.rtt * 1000,
            "health_checks": self.health_checks,
            "sweep": self.sweep,
            "seed": self.seed,
            "simulated_open": self.simulation.open_seconds,
            "simulated_query": self.simulation.query_seconds,
            "simulated_unhealthy": self.simulation.unhealthy,
        }

    # ---- without a sweep -----------------------------------------------------------------------

    def _cells(self, vendor: str) -> Iterator[Cell]:
        if vendor == SIMULATED and self.workloads is None:
            yield self._simulation()
            return
        for workload in self.workloads or self.usual:
            for threads in self._threads_for(workload):
                yield self._cell(workload, threads)

    def _cell(self, workload: Workload, threads: int) -> Cell:
        exhaustion = workload.kind == "exhaustion"
        counted = workload.kind != "steady"
        return Cell(
            workload=workload,
            threads=threads,
            iterations=self.iterations,
            pool_size=self.pool_size,
            rounds=1 if exhaustion else self.rounds,
            seconds=None if counted else self._seconds(workload),
            cold=counted,
            warm_up=not exhaustion,
            timeout=self.timeout if exhaustion else 30.0,
        )

    def _threads_for(self, workload: Workload) -> tuple[int, ...]:
        if workload.kind == "exhaustion":
            return (self.pool_size + 1,)
        if workload.crowd:
            enough = tuple(each for each in self.threads if each > self.pool_size)
            return enough or (4 * self.pool_size,)
        return self.threads

    def _seconds(self, workload: Workload) -> float | None:
        own = workload.seconds and workload.seconds / self.haste
        return self.duration or own

    def _simulation(self) -> Cell:
        """Opening takes its time, so there are fewer operations: by default 100 in all rounds.

        Nothing needs to warm up, and opening the first connection counts.
        """
        return Cell(
            workload=READ,
            threads=1,
            iterations=max(1, self.iterations // 10),
            pool_size=self.pool_size,
            rounds=self.rounds,
            seconds=self.duration,
            warm_up=False,
        )

    # ---- sweeps --------------------------------------------------------------------------------

    def _swept(self) -> Iterator[Cell]:
        if self.sweep == "iterations":
            for workload in self.workloads or (READ,):
                for value in self._numbers_of_operations():
                    yield Cell(
                        workload=workload,
                        threads=min(self.threads),
                        iterations=value,
                        pool_size=self.pool_size,
                        rounds=self.rounds,
                        cold=True,
                        sweep={"name": "iterations", "value": value},
                    )
            return
        threads = max(self.threads)
        for workload in self.workloads or (CONTENTION,):
            for value in POOL_SIZES:
                if value <= max(threads, self.pool_size):
                    yield Cell(
                        workload=workload,
                        threads=threads,
                        iterations=self.iterations,
                        pool_size=value,
                        rounds=self.rounds,
                        seconds=self._seconds(workload),
                        sweep={"name": "pool-size", "value": value},
                    )

    def _numbers_of_operations(self) -> list[int]:
        """Return 1, 2, 5, 10 and so on, up to and with the given number."""
        numbers = [step * 10**power for power in range(7) for step in STEPS]
        return sorted({*(each for each in numbers if each < self.iterations), self.iterations})
