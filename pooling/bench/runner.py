"""Runs a plan: the contenders take turns, and their reports are collected."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from django.db import DatabaseError

from . import environment
from .adapters.base import MYSQL, POSTGRESQL, RunConfig
from .aggregation import make_document
from .databases import SetupError
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
    from .results import Document
    from .workloads import Workload

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
        rounds: its reports by round and workload, those that there are.
        opened: its connections, warm-up included, if they could be counted.
        problem: why it did not get to the end, if it did not.
    """

    contender: Contender
    rounds: dict[int, dict[str, TrialReport]] = field(default_factory=dict)
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
    vendor: str
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
    warnings: Sequence[str] = (),
) -> Document:
    """Run a plan with one provider after the other.

    Everything is made ready before the first turn. What was measured before Ctrl-C or an error is
    in the document, which says what happened.

    Raises:
        SetupError: nothing could be measured.
    """
    begin = time.monotonic()
    found = environment.describe()
    left_out: list[dict[str, str]] = []
    cells: list[CellRecords] = []
    interrupted, noted = None, list(warnings)
    try:
        with ExitStack() as stack:
            ready = []
            for opening in providers:
                try:
                    provider = stack.enter_context(opening)
                    found["servers"][provider.title] = provider.describe()
                    noted += [
                        f"left behind by a killed run: {name} ({mark}); --clean removes it"
                        for name, mark in provider.left_behind().items()
                    ]
                except SetupError as error:
                    if len(providers) == 1:
                        raise
                    left_out.append({"contender": "all", "reason": str(error)})
                    continue
                ready.append((provider, _open_entrants(stack, provider, plan, left_out)))
            for provider, entrants in ready:
                _run_cells(provider, plan, entrants, cells, on_step)
    except (KeyboardInterrupt, SetupError, DatabaseError) as error:
        if not any(record.rounds for each in cells for record in each.records):
            raise
        interrupted = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    seconds = time.monotonic() - begin
    return make_document(plan, cells, found, left_out, seconds, interrupted, noted)


def run(
    provider: DatabaseProvider,
    plan: Plan,
    on_step: Callable[[Step], None] = lambda _: None,
    left_out: list[dict[str, str]] | None = None,
) -> list[CellRecords]:
    """Run all cells at one database. Contenders that did not start are added to `left_out`."""
    cells: list[CellRecords] = []
    with ExitStack() as stack:
        entrants = _open_entrants(stack, provider, plan, [] if left_out is None else left_out)
        _run_cells(provider, plan, entrants, cells, on_step)
    return cells


def _run_cells(
    provider: DatabaseProvider,
    plan: Plan,
    entrants: Sequence[Entrant],
    cells: list[CellRecords],
    on_step: Callable[[Step], None],
) -> None:
    for cell in plan.cells(provider.vendor):
        admitted = [each for each in entrants if cell.admits(each.contender, provider.vendor)]
        turns = [(each, Record(each.contender, problem=each.stopped)) for each in admitted]
        # Before it is filled, so that Ctrl-C loses nothing.
        records = [record for _, record in turns]
        cells.append(CellRecords(provider.title, provider.vendor, cell, records))
        _CellRun(provider, plan, cell, on_step).run(turns)


def order(entrants: Sequence[T], number: int) -> list[T]:
    """Return the order of a round: another one begins each time, so that none is always first."""
    start = number % len(entrants) if entrants else 0
    return [*entrants[start:], *entrants[:start]]


def _address(provider: DatabaseProvider) -> tuple[str, int]:
    """Return the host and the port of a server."""
    host, port = provider.base.get("HOST"), provider.base.get("PORT")
    if provider.vendor == MYSQL:
        return ("127.0.0.1" if not host or host.startswith("/") else host), int(port or 3306)
    return (
        host or os.environ.get("PGHOST") or "/var/run/postgresql",
        int(port or os.environ.get("PGPORT") or 5432),
    )


def _open_entrants(
    stack: ExitStack, provider: DatabaseProvider, plan: Plan, left_out: list[dict[str, str]]
) -> list[Entrant]:
    relayed: dict[str, str] = {}
    if plan.rtt and provider.vendor in (POSTGRESQL, MYSQL):
        relay = stack.enter_context(Relay(*_address(provider), plan.rtt))
        relayed = {"HOST": relay.host, "PORT": str(relay.port)}
    entrants = []
    cells = plan.cells(provider.vendor)
    for contender in plan.contenders:
        if not any(cell.admits(contender, provider.vendor) for cell in cells):
            continue
        if contender.missing():
            continue
        entry = stack.enter_context(provider.new_database())
        provider.prepare(entry)
        # Ended before its database is removed.
        process = stack.enter_context(
            WorkerProcess(contender.path(), contender.blocked, provider.project)
        )
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
    """All turns of one cell."""

    provider: DatabaseProvider
    plan: Plan
    cell: Cell
    on_step: Callable[[Step], None]

    def run(self, turns: Sequence[tuple[Entrant, Record]]) -> None:
        cell, title = self.cell, self.provider.title
        for entrant, record in turns:
            if entrant.stopped is None:
                if entrant.counter is not None:
                    entrant.counter.begin()
                with _noting_failure(entrant, record):
                    self._open(entrant)
        for number in range(1 - cell.warm_up, cell.rounds + 1):
            for entrant, record in order(turns, number):
                self.on_step(Step(title, entrant.contender.name, cell.title, cell.threads, number))
                if record.problem is None:
                    with _noting_failure(entrant, record):
                        self._take_turn(entrant, record, number)
        for entrant, record in turns:
            self._end(entrant, record)

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
            alias=self.provider.alias,
            work=next((each.title for each in cell.workloads if each.kind == "own"), ""),
            cpus=environment.processors(load=True) if plan.pin else (),
        )
        entrant.process.ask(plan.grace, "open", config)

    def _take_turn(self, entrant: Entrant, record: Record, number: int) -> None:
        cell = self.cell
        if cell.cold and number > 1 - cell.warm_up:
            record.add_opened(entrant.process.ask(CLOSE_TIMEOUT, "close"))
            self._open(entrant)
        reports = {each.name: self._run_trial(entrant, each, number) for each in cell.workloads}
        if number:
            record.rounds[number] = reports

    def _run_trial(self, entrant: Entrant, workload: Workload, number: int) -> TrialReport:
        cell, counter = self.cell, entrant.counter
        seconds = cell.seconds_of(workload)
        warm_up = max(WARM_UP, 4 * cell.threads) if seconds else min(cell.iterations, WARM_UP)
        trial = Trial(
            workload=workload,
            iterations=cell.iterations if number else warm_up,
            seconds=seconds if number else None,
            seed=f"{self.plan.seed}-{cell.threads}-{number}",
            rate=cell.rate if number else None,
        )
        timeout = self.plan.grace + (
            3 * seconds if seconds else cell.iterations * LONGEST_OPERATION
        )
        sample = bool if counter is None else counter.sample
        report: TrialReport = entrant.process.ask(timeout, "trial", trial, meanwhile=sample)
        sample()
        return report

    def _end(self, entrant: Entrant, record: Record) -> None:
        if entrant.stopped is None:
            with _noting_failure(entrant, record):
                record.add_opened(entrant.process.ask(CLOSE_TIMEOUT, "close"))
        if entrant.stopped is None and entrant.counter is not None:
            record.opened = entrant.counter.end()
        if any(p.action == "insert" for each in self.cell.workloads for p in each.phases):
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
