"""Runs a plan: the contenders take turns, and their reports are collected."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from . import environment
from .adapters.base import POSTGRESQL, RunConfig
from .aggregation import make_document
from .measurements import ConnectionCounts, Trial
from .plan import WARM_UP
from .processes import CLOSE_TIMEOUT, WorkerFailedError, WorkerProcess, WorkerStoppedError
from .relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from .connection_counter import ConnectionCounter
    from .contenders import Contender
    from .databases import DatabaseProvider
    from .measurements import TrialReport
    from .plan import Cell, Plan
    from .results import Document, LeftOut

T = TypeVar("T")

# An operation that takes longer than this on average belongs to a contender that hangs.
LONGEST_OPERATION = 0.2


class Step(NamedTuple):
    """What is run next, for showing progress. Round 0 is the warm-up."""

    database: str
    contender: str
    workload: str
    threads: int
    round: int


@dataclass(slots=True)
class Record:
    """What one contender did in one cell.

    Attributes:
        rounds: its reports by round, those that there are.
        opened: its connections, warm-up included, if they could be counted.
        problem: why it did not get to the end, if it did not.
    """

    contender: Contender
    rounds: dict[int, TrialReport] = field(default_factory=dict)
    opened: ConnectionCounts | None = None
    problem: str | None = None

    def add_opened(self, new: ConnectionCounts | None) -> None:
        """Add the counts of a pool that was closed, if its process knows them."""
        if new is not None and (before := self.opened) is not None:
            new = ConnectionCounts(before.opened + new.opened, max(before.peak, new.peak))
        self.opened = new or self.opened


class CellRecords(NamedTuple):
    """What all contenders did in one cell."""

    database: str
    cell: Cell
    records: list[Record]


@dataclass(slots=True)
class Entrant:
    """A contender with its own process and database.

    Attributes:
        entry: the database for the benchmark itself.
        outside: the same as the contender sees it, perhaps at the other end of a relay.
        stopped: why it is not asked any more.
    """

    contender: Contender
    process: WorkerProcess
    entry: dict[str, Any]
    outside: dict[str, Any]
    counter: ConnectionCounter | None
    stopped: str | None = None


def measure(
    plan: Plan,
    providers: Sequence[AbstractContextManager[DatabaseProvider]],
    on_step: Callable[[Step], None] = lambda _: None,
) -> Document:
    """Run a plan with one provider after the other.

    Raises:
        SetupError: a database could not be made, or not be removed.
    """
    begin = time.monotonic()
    found = environment.describe()
    left_out: list[LeftOut] = []
    cells = []
    for opening in providers:
        with opening as provider:
            found["servers"][provider.title] = provider.describe()
            cells += run(provider, plan, on_step, left_out)
    return make_document(plan, cells, found, left_out, time.monotonic() - begin)


def run(
    provider: DatabaseProvider,
    plan: Plan,
    on_step: Callable[[Step], None] = lambda _: None,
    left_out: list[LeftOut] | None = None,
) -> list[CellRecords]:
    """Measure all contenders with a provider's databases; call `on_step` before each trial.

    What was made is removed in any case. A contender that fails is reported, and the others go on;
    one that cannot even start is added to `left_out`.

    Raises:
        SetupError: no database could be made or removed.
    """
    vendor = provider.vendor
    with ExitStack() as stack:
        entrants = _open_entrants(stack, provider, plan, [] if left_out is None else left_out)
        return [
            _CellRun(provider, plan, cell, on_step).run(admitted)
            for cell in plan.cells(vendor)
            if (admitted := [each for each in entrants if cell.admits(each.contender, vendor)])
        ]


def order(entrants: Sequence[T], number: int) -> list[T]:
    """Return the order of a round: another one begins each time, so that none is always first."""
    start = number % len(entrants)
    return [*entrants[start:], *entrants[:start]]


def _open_entrants(
    stack: ExitStack, provider: DatabaseProvider, plan: Plan, left_out: list[LeftOut]
) -> list[Entrant]:
    relayed: dict[str, str] = {}
    if plan.rtt and provider.vendor == POSTGRESQL:
        host = provider.base.get("HOST") or os.environ.get("PGHOST") or "/var/run/postgresql"
        port = int(provider.base.get("PORT") or os.environ.get("PGPORT") or 5432)
        relay = stack.enter_context(Relay(host, port, plan.rtt))
        relayed = {"HOST": relay.host, "PORT": str(relay.port)}
    entrants = []
    for contender in plan.contenders:
        if provider.vendor not in contender.vendors or contender.missing():
            continue
        entry = stack.enter_context(provider.new_database())
        provider.prepare(entry)
        # Ended before its database is removed.
        process = stack.enter_context(WorkerProcess(contender.path(), contender.blocked))
        process.start()
        counter = provider.connection_counter(entry)
        entrants.append(Entrant(contender, process, entry, {**entry, **relayed}, counter))
    present = []
    for entrant in entrants:
        try:
            entrant.process.ready()
        except WorkerFailedError as error:
            name = entrant.contender.name
            left_out.append({"contender": name, "reason": str(error), "database": provider.title})
        else:
            present.append(entrant)
    return present


@dataclass(frozen=True, slots=True)
class _CellRun:
    """All trials of one cell."""

    provider: DatabaseProvider
    plan: Plan
    cell: Cell
    on_step: Callable[[Step], None]

    def run(self, entrants: Sequence[Entrant]) -> CellRecords:
        cell, title = self.cell, self.provider.title
        turns = [(each, Record(each.contender, problem=each.stopped)) for each in entrants]
        for entrant, record in turns:
            if entrant.stopped is None:
                if entrant.counter is not None:
                    entrant.counter.begin()
                with _noting_failure(entrant, record):
                    self._open(entrant)
        for number in range(1 - cell.warm_up, cell.rounds + 1):
            for entrant, record in order(turns, number):
                name = entrant.contender.name
                self.on_step(Step(title, name, cell.workload.name, cell.threads, number))
                if record.problem is None:
                    with _noting_failure(entrant, record):
                        self._run_trial(entrant, record, number)
        for entrant, record in turns:
            self._end(entrant, record)
        return CellRecords(title, cell, [record for _, record in turns])

    def _open(self, entrant: Entrant) -> None:
        plan, cell = self.plan, self.cell
        config = RunConfig(
            vendor=self.provider.vendor,
            entry=entrant.outside,
            pool_size=cell.pool_size,
            threads=cell.threads,
            timeout=cell.timeout,
            health_checks=plan.health_checks,
            simulated_open=plan.simulated_open,
            simulated_query=plan.simulated_query,
            simulated_unhealthy=plan.simulated_unhealthy,
            seed=f"{plan.seed}-{entrant.contender.name}",
        )
        entrant.process.ask(plan.grace, "open", config)

    def _run_trial(self, entrant: Entrant, record: Record, number: int) -> None:
        cell, process, counter = self.cell, entrant.process, entrant.counter
        if cell.cold and number > 1 - cell.warm_up:
            record.add_opened(process.ask(CLOSE_TIMEOUT, "close"))
            self._open(entrant)
        trial = Trial(
            workload=cell.workload,
            iterations=cell.iterations if number else min(cell.iterations, WARM_UP),
            seconds=cell.seconds,
            seed=f"{self.plan.seed}-{cell.threads}-{number}",
        )
        timeout = self.plan.grace + (cell.seconds or cell.iterations * LONGEST_OPERATION)
        sample = bool if counter is None else counter.sample
        report = process.ask(timeout, "trial", trial, meanwhile=sample)
        sample()
        if number:
            record.rounds[number] = report

    def _end(self, entrant: Entrant, record: Record) -> None:
        if entrant.stopped is None:
            with _noting_failure(entrant, record):
                record.add_opened(entrant.process.ask(CLOSE_TIMEOUT, "close"))
        if entrant.stopped is None and entrant.counter is not None:
            record.opened = entrant.counter.end()
        if any(phase.action == "insert" for phase in self.cell.workload.phases):
            self.provider.clear(entrant.entry)


@contextmanager
def _noting_failure(entrant: Entrant, record: Record) -> Iterator[None]:
    """Go on when a contender fails; note how."""
    try:
        yield
    except WorkerStoppedError as error:
        # It would only stop again, and every time would cost the whole timeout.
        record.problem = entrant.stopped = str(error)
    except WorkerFailedError as error:
        record.problem = record.problem or str(error)
