"""A fleet of simulated processes with one budget: the policy alone, under a clock of its own.

    python -m tests.benchmarks.budget

prints the table of docs/budget.md. The policy is that of `pooling.core.budget`, and attempts last
as long as in `pooling.backends.postgresql.budget`; a server, threads and networks are left out.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import sys
from typing import TYPE_CHECKING, NamedTuple

from pooling.backends.postgresql.budget import ATTEMPT, ATTEMPT_STEP
from pooling.core import budget as policy
from pooling.core.budget import POOL_BITS, Share

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECT = 0.005
"""Seconds that a connect takes."""


class Result(NamedTuple):
    """What became of a fleet."""

    seconds: float
    """Until nothing changes any more for `QUIET`."""
    first: float
    """Until the last process had its first connection."""
    connects: int
    """Connects, those included that were turned away."""
    busiest: int
    """The most connects within a second, after the first one."""
    closed: int
    """Connections that were given up."""
    smallest: int
    largest: int
    """What the processes have in the end, those that want more."""
    waiting: int
    """The most processes that waited on the server at once."""


QUIET = 30.0


class Process:
    def __init__(self, number: int, demand: int) -> None:
        self.number = number << POOL_BITS
        self.demand = demand
        self.connections = 0
        self.opened_at = 0.0
        self.first: float | None = None
        self.flagged_until: float | None = None
        self.pause = 0.0
        self.was_hopeful = False
        self.ceiling: int | None = None
        self.ceiling_ends = 0.0

    def wants(self, now: float) -> bool:
        ceiling = self.ceiling if self.ceiling is not None and now < self.ceiling_ends else None
        return self.connections < min(self.demand, self.demand if ceiling is None else ceiling)


class Simulation:
    """Processes that begin within `spread` seconds and want `demand` connections each, for good."""

    def __init__(
        self, processes: int, limit: int, demand: int, *, spread: float, seed: int
    ) -> None:
        self.random = random.Random(seed)
        self.limit = limit
        self.now = 0.0
        self.processes = [Process(number, demand) for number in range(processes)]
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[Process], None], Process]] = []
        self._shares: dict[int, Share] = {}
        self._free, self._flagged = limit, 0
        self._hopes: dict[int, bool] = {}
        self.connects: list[float] = []
        self.closed = 0
        self.changed = 0.0
        self.waiting = 0
        for process in self.processes:
            self._plan(self.random.random() * spread, self._attempt, process)

    def run(self, seconds: float) -> Result:
        while self._events and self.now < seconds and self.now - self.changed < QUIET:
            self.now, _, act, process = heapq.heappop(self._events)
            act(process)
        per_second: dict[int, int] = {}
        for when in self.connects:
            per_second[int(when)] = per_second.get(int(when), 0) + 1
        sizes = [each.connections for each in self.processes]
        return Result(
            seconds=self.changed,
            first=max(self.now if each.first is None else each.first for each in self.processes),
            connects=len(self.connects),
            busiest=max((n for second, n in per_second.items() if second > 0), default=0),
            closed=self.closed,
            smallest=min(sizes),
            largest=max(sizes),
            waiting=self.waiting,
        )

    def _plan(self, delay: float, act: Callable[[Process], None], process: Process) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._order), act, process))

    def _note(self, process: Process) -> None:
        """Note that a process has changed."""
        old = self._shares.get(process.number, Share(0, wants=False))
        new = Share(process.connections, process.flagged_until is not None)
        self._free -= new.connections - old.connections
        self._flagged += new.wants - old.wants
        assert self._free >= 0
        if any(new):
            self._shares[process.number] = new
        else:
            self._shares.pop(process.number, None)
        self._hopes.clear()

    def _may_hope(self, process: Process) -> bool:
        own = process.connections
        if own not in self._hopes:
            self._hopes[own] = policy.may_hope(self._shares, process.number, self.limit)
        return self._hopes[own]

    def _attempt(self, process: Process) -> None:
        if not process.wants(self.now):
            self._plan(policy.ATTEMPT_PAUSE, self._attempt, process)
            return
        self.connects.append(self.now)
        if self._free > 0 and not (self._flagged and process.connections):
            self._take(process)
            return
        process.flagged_until = self.now + ATTEMPT
        self._note(process)
        self.waiting = max(self.waiting, self._flagged)
        self._try(process)

    def _try(self, process: Process) -> None:
        hopeful = self._may_hope(process)
        if hopeful and self._free > 0:
            process.flagged_until = None
            self._take(process)
        elif hopeful and self.now < (process.flagged_until or 0.0):
            self._plan(ATTEMPT_STEP * (0.5 + self.random.random()), self._try, process)
        else:
            process.flagged_until = None
            self._note(process)
            last = process.pause if hopeful is process.was_hopeful else 0.0
            process.pause = policy.attempt_pause(last, self._flagged, hopeful=hopeful)
            process.was_hopeful = hopeful
            self._plan(process.pause * (0.75 + self.random.random() / 2), self._attempt, process)

    def _take(self, process: Process) -> None:
        process.connections += 1
        self._note(process)
        process.pause = 0.0
        process.opened_at = self.changed = self.now
        if process.first is None:
            process.first = self.now
        if process.connections == 1:
            pause = policy.probe_pause(1, self.random.random)
            self._plan(pause, self._probe, process)
        self._plan(CONNECT, self._attempt, process)

    def _probe(self, process: Process) -> None:
        if not process.connections:
            return
        found = policy.probe(
            self._shares,
            process.number,
            self.limit,
            in_demand=process.wants(self.now),
            age=self.now - process.opened_at,
            random=self.random.random,
        )
        keep = process.connections - found.give_up
        if found.ceiling is not None:
            keep = min(keep, found.ceiling)
        if keep < process.connections:
            self.closed += process.connections - keep
            process.connections = keep
            self._note(process)
            self.changed = self.now
        if self._free and not process.was_hopeful:
            process.pause = 0.0  # a look that finds room ends it
        process.ceiling = found.ceiling
        process.ceiling_ends = self.now + found.pause + policy.CEILING
        if process.connections:
            self._plan(found.pause, self._probe, process)


FLEETS = (
    # processes, budget, wanted by each, all start within so many seconds
    (40, 60, 10, 1.0),
    (200, 300, 10, 5.0),
    (2_000, 3_000, 10, 60.0),
    (2_000, 3_000, 10, 1.0),
    (2_000, 2_500, 2, 1.0),
)


def main() -> None:
    """Print a table."""
    write = sys.stdout.write
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    write(
        "| processes | budget | each wants | started within | all have one after | at rest after "
        "| connections of each | connects | most in a second | given up |\n|" + "---:|" * 10 + "\n"
    )
    for processes, limit, demand, spread in FLEETS:
        result = Simulation(processes, limit, demand, spread=spread, seed=seed).run(600.0)
        write(
            f"| {processes:,} | {limit:,} | {demand} | {spread:g} s | {result.first:.0f} s "
            f"| {result.seconds:.0f} s | {result.smallest} to {result.largest} "
            f"| {result.connects:,} | {result.busiest:,} | {result.closed:,} |\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
