"""Runs the contenders in turns and collects what they report."""

from __future__ import annotations

import os
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .plan import WARM_UP
from .processes import ContenderFailedError, ContenderProcess, ContenderStoppedError
from .relay import Relay
from .measurements import Turn
from .adapters.base import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .databases import Arena
    from .connection_counter import PostgresCensus
    from .contenders import Contender
    from .plan import Cell, Plan
    from .results import LeftOut
    from .measurements import Opened, TurnReport

# An operation that takes longer than this on average belongs to a contender that hangs.
LONGEST_OPERATION = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is about to be run, for whoever watches. Round 0 is the warm-up."""

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
        opened: its connections, warm-up included, if anybody could count them.
        problem: why it did not get to the end, if it did not.
    """

    contender: Contender
    rounds: dict[int, TurnReport] = field(default_factory=dict)
    opened: Opened | None = None
    problem: str | None = None


@dataclass(slots=True)
class CellRecords:
    """What all of them did in one cell."""

    database: str
    cell: Cell
    records: list[Record]


@dataclass(slots=True)
class Side:
    """A contender at its own database.

    Attributes:
        entry: the database for the benchmark itself.
        outside: the same as the contender sees it, perhaps at the other end of a relay.
        stopped: why it is not asked any more.
    """

    contender: Contender
    vendor: str
    process: ContenderProcess
    entry: dict[str, Any]
    outside: dict[str, Any]
    census: PostgresCensus | None
    stopped: str | None = None


def run(
    arena: Arena,
    plan: Plan,
    on_step: Callable[[Step], None] = lambda _: None,
    left_out: list[LeftOut] | None = None,
) -> list[CellRecords]:
    """Measure all contenders in an arena; call `on_step` before each turn.

    What was made is removed in any case. A contender that fails is reported and does not keep the
    others from going on; who is not there at all is added to `left_out`.

    Raises:
        ArenaError: the arena cannot be used, or not be cleaned up.
    """
    left_out = [] if left_out is None else left_out
    with ExitStack() as stack:
        sides = _open_sides(stack, arena, plan, left_out)
        found = []
        for cell in plan.cells(arena.vendor):
            admitted = [side for side in sides if cell.admits(side.contender, arena.vendor)]
            if admitted:
                found.append(_run_cell(arena, plan, cell, admitted, on_step))
        return found


def order(sides: Sequence[Side], number: int) -> list[Side]:
    """Return the order of a round: another side begins each time, so that none always goes
    first."""
    start = number % len(sides)
    return [*sides[start:], *sides[:start]]


def _open_sides(stack: ExitStack, arena: Arena, plan: Plan, left_out: list[LeftOut]) -> list[Side]:
    relayed: dict[str, str] = {}
    if plan.rtt and arena.vendor == "postgresql":
        host = arena.base.get("HOST") or os.environ.get("PGHOST") or "/var/run/postgresql"
        port = int(arena.base.get("PORT") or os.environ.get("PGPORT") or 5432)
        relay = stack.enter_context(Relay(host, port, plan.rtt))
        relayed = {"HOST": relay.host, "PORT": str(relay.port)}
    sides = []
    for contender in plan.contenders:
        if arena.vendor not in contender.vendors or contender.missing():
            continue
        entry = stack.enter_context(arena.new_database())
        arena.prepare(entry)
        # Ended before its database is removed.
        process = stack.enter_context(ContenderProcess(contender))
        process.start()
        outside = {**entry, **relayed}
        census = arena.census_of(entry)
        sides.append(Side(contender, arena.vendor, process, entry, outside, census))
    present = []
    for side in sides:
        try:
            side.process.ready()
        except ContenderFailedError as error:
            left_out.append(
                {
                    "contender": side.contender.name,
                    "reason": str(error),
                    "database": arena.title,
                }
            )
        else:
            present.append(side)
    return present


def _run_cell(
    arena: Arena,
    plan: Plan,
    cell: Cell,
    sides: Sequence[Side],
    on_step: Callable[[Step], None],
) -> CellRecords:
    records = {side.contender.name: Record(side.contender) for side in sides}
    for side in sides:
        _begin(plan, cell, side, records[side.contender.name])
    for number in range(1 - cell.warm_up, cell.rounds + 1):
        for side in order(sides, number):
            on_step(
                Step(
                    database=arena.title,
                    contender=side.contender.name,
                    workload=cell.workload.name,
                    threads=cell.threads,
                    round=number,
                )
            )
            record = records[side.contender.name]
            if record.problem is None:
                _take_turn(plan, cell, side, record, number)
    for side in sides:
        _end(arena, cell, side, records[side.contender.name])
    return CellRecords(arena.title, cell, list(records.values()))


def _begin(plan: Plan, cell: Cell, side: Side, record: Record) -> None:
    if side.stopped is not None:
        record.problem = side.stopped
        return
    if side.census is not None:
        side.census.begin()
    _guarded(side, record, lambda: side.process.open(_place(plan, cell, side), plan.bound))


def _take_turn(plan: Plan, cell: Cell, side: Side, record: Record, number: int) -> None:
    turn = Turn(
        workload=cell.workload,
        iterations=cell.iterations if number else min(cell.iterations, WARM_UP),
        seconds=cell.seconds,
        seed=f"{plan.seed}-{cell.threads}-{number}",
    )
    bound = plan.bound + (cell.seconds or cell.iterations * LONGEST_OPERATION)

    def take() -> None:
        if cell.cold and number > 1 - cell.warm_up:
            opened = side.process.close()
            record.opened = _added(record.opened, opened)
            side.process.open(_place(plan, cell, side), plan.bound)
        with side.census.turn() if side.census is not None else nullcontext():
            report = side.process.turn(turn, bound)
        if number:
            record.rounds[number] = report

    _guarded(side, record, take)


def _end(arena: Arena, cell: Cell, side: Side, record: Record) -> None:
    def close() -> None:
        record.opened = _added(record.opened, side.process.close())

    if side.stopped is None:
        _guarded(side, record, close)
    if side.stopped is None and side.census is not None:
        record.opened = side.census.end()
    if any(phase.act == "insert" for phase in cell.workload.phases):
        arena.clear(side.entry)


def _guarded(side: Side, record: Record, act: Callable[[], None]) -> None:
    """Do something with a contender; note what is wrong with it, if anything."""
    try:
        act()
    except ContenderStoppedError as error:
        # It would only stop again, and every time would cost the whole bound.
        record.problem = side.stopped = str(error)
    except ContenderFailedError as error:
        record.problem = record.problem or str(error)


def _place(plan: Plan, cell: Cell, side: Side) -> Place:
    return Place(
        vendor=side.vendor,
        entry=side.outside,
        pool_size=cell.pool_size,
        threads=cell.threads,
        timeout=cell.timeout,
        health_checks=plan.health_checks,
        simulation=plan.simulation,
        seed=f"{plan.seed}-{side.contender.name}",
    )


def _added(before: Opened | None, new: Opened | None) -> Opened | None:
    if before is None or new is None:
        return new or before
    return type(new)(before.opened + new.opened, max(before.peak, new.peak))
