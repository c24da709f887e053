"""Runs contests: every side in a process of its own, all of them in turns."""

from __future__ import annotations

import random
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pooling.bench.databases import temporary_alias
from pooling.bench.contenders import PACKAGES
from pooling.bench.processes import ContenderFailedError
from pooling.bench.users import TABLE
from pooling.bench.adapters.base import Place
from pooling.bench.adapters.orm import plain_entry
from pooling.bench.worker import Hello

from .worker import ProbeProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooling.bench.databases import Arena

    from .contest import Contest, Side

WARM_UP = 100
MOST_OPERATIONS = 1_000_000
ENOUGH = 0.3

TABLES = f"""
CREATE TABLE "shop_thingNUMBER" (
    "id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    "created" datetime NOT NULL,
    "changed" datetime NOT NULL,
    "name" varchar(100) NOT NULL UNIQUE,
    "text" text NOT NULL,
    "price" decimal NOT NULL,
    "is_active" bool NOT NULL,
    "owner_id" bigint NOT NULL REFERENCES "{TABLE}" ("id") DEFERRABLE INITIALLY DEFERRED,
    "editor_id" bigint NULL REFERENCES "{TABLE}" ("id") DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX "shop_thingNUMBER_owner_id_1f2e3d4c" ON "shop_thingNUMBER" ("owner_id");
CREATE INDEX "shop_thingNUMBER_editor_id_5b6a7980" ON "shop_thingNUMBER" ("editor_id")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much is measured.

    Attributes:
        rounds: how often each side has its turn.
        seconds: how long a turn takes, about.
        seed: for the order of turns.
        quick: whether a first impression is enough.
    """

    rounds: int = 15
    seconds: float = 0.05
    seed: int = 1
    quick: bool = False


QUICK = Amount(rounds=3, seconds=0.005, quick=True)


@dataclass(slots=True)
class Found:
    """What came of a contest.

    Attributes:
        rounds: by round, what each side measured.
        problems: by side, why it did not take part, or not to the end.
    """

    contest: Contest
    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def missing(side: Side) -> str:
    """Say what a side lacks, if anything."""
    lacking = [PACKAGES.get(name, name) for name in side.needs if find_spec(name) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def run(
    contest: Contest,
    amount: Amount,
    arena: Arena | None = None,
    on_round: Callable[[Contest, int], None] = lambda _contest, _number: None,
) -> Found:
    """Let the sides have their turns. A side that fails does not keep the others from going on."""
    found = Found(contest)
    rounds = min(amount.rounds, contest.most_rounds or amount.rounds)
    with ExitStack() as stack:
        entry = None
        if arena is not None:
            entry = stack.enter_context(arena.new_database())
            arena.prepare(entry)
            make_tables(arena, entry, contest.tables - 1)
        processes = {}
        for side in contest.sides:
            if lack := missing(side):
                found.problems[side.name] = lack
                continue
            process = stack.enter_context(ProbeProcess(Hello(side.probe, side.blocked)))
            process.start()
            processes[side.name] = process
        numbers = {}
        for side in contest.sides:
            if side.name in processes:
                try:
                    process = processes[side.name]
                    process.ready()
                    process.open(options_of(side, contest.arena, entry))
                    numbers[side.name] = _calibrated(process, contest, amount)
                except ContenderFailedError as error:
                    found.problems[side.name] = str(error)
        for number in range(rounds):
            on_round(contest, number)
            order = list(numbers)
            random.Random(f"{amount.seed}-{contest.name}-{number}").shuffle(order)
            measured = {}
            for name in order:
                try:
                    measured[name] = processes[name].turn(numbers[name])
                except ContenderFailedError as error:
                    found.problems[name] = str(error)
                    del numbers[name]
            found.rounds.append(measured)
        for name in numbers:
            try:
                processes[name].close()
            except ContenderFailedError as error:
                found.problems[name] = str(error)
    return found


def options_of(side: Side, vendor: str, entry: dict[str, Any] | None) -> dict[str, Any]:
    """Return what a side's probe is made with."""
    if side.contender is None or entry is None:
        return side.options
    place = Place(
        vendor=vendor,
        entry=entry,
        pool_size=4,
        health_checks=side.health_checks,
    )
    return {**side.options, "way": side.contender.way, "place": place}


def make_tables(arena: Arena, entry: dict[str, Any], number: int) -> None:
    """Make further tables, as Django would make those of a model with two foreign keys."""
    if not number:
        return
    from django.db import connections

    with (
        temporary_alias("poolbench_setup", plain_entry(arena.vendor, entry)) as alias,
        connections[alias].cursor() as cursor,
    ):
        for each in range(number):
            for statement in TABLES.replace("NUMBER", str(each)).split(";"):
                cursor.execute(statement)


def _calibrated(process: ProbeProcess, contest: Contest, amount: Amount) -> int:
    """Return how often a side does it in a turn, and warm up on the way."""
    if contest.number is not None:
        return (contest.quick_number if amount.quick else None) or contest.number
    wanted = amount.seconds * contest.longer
    number, taken = WARM_UP, 0.0
    # A few times are no measure: they pay for caches, and for threads that have to be started.
    while taken < wanted * ENOUGH and number < MOST_OPERATIONS:
        taken = number * process.turn(number)["seconds"]
        number = round(number * min(max(wanted / taken, 0.1), 20.0))
    return max(1, min(number, MOST_OPERATIONS))
