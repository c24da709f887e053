"""Runs benchmarks: every subject in a process of its own, all of them in turns."""

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
from pooling.bench.adapters.base import RunConfig
from pooling.bench.adapters.orm import plain_entry
from pooling.bench.worker import Handshake

from .worker import ProbeProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooling.bench.databases import DatabaseProvider

    from .benchmark import MicroBenchmark, Subject

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
class Budget:
    """How much is measured.

    Attributes:
        rounds: how often each subject has its turn.
        seconds: how long a turn takes, about.
        seed: for the order of turns.
        quick: whether a first impression is enough.
    """

    rounds: int = 15
    seconds: float = 0.05
    seed: int = 1
    quick: bool = False


QUICK = Budget(rounds=3, seconds=0.005, quick=True)


@dataclass(slots=True)
class Found:
    """What came of a benchmark.

    Attributes:
        rounds: by round, what each subject measured.
        problems: by subject, why it did not take part, or not to the end.
    """

    benchmark: MicroBenchmark
    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def missing(subject: Subject) -> str:
    """Say what a subject lacks, if anything."""
    lacking = [PACKAGES.get(name, name) for name in subject.needs if find_spec(name) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def run(
    benchmark: MicroBenchmark,
    amount: Budget,
    provider: DatabaseProvider | None = None,
    on_round: Callable[[MicroBenchmark, int], None] = lambda _contest, _number: None,
) -> Found:
    """Let the subjects have their turns. A subject that fails does not keep the others from going on."""
    found = Found(benchmark)
    rounds = min(amount.rounds, benchmark.most_rounds or amount.rounds)
    with ExitStack() as stack:
        entry = None
        if provider is not None:
            entry = stack.enter_context(provider.new_database())
            provider.prepare(entry)
            make_tables(provider, entry, benchmark.tables - 1)
        processes = {}
        for subject in benchmark.subjects:
            if lack := missing(subject):
                found.problems[subject.name] = lack
                continue
            process = stack.enter_context(ProbeProcess(Handshake(subject.probe, subject.blocked)))
            process.start()
            processes[subject.name] = process
        numbers = {}
        for subject in benchmark.subjects:
            if subject.name in processes:
                try:
                    process = processes[subject.name]
                    process.ready()
                    process.open(options_of(subject, benchmark.provider, entry))
                    numbers[subject.name] = _calibrated(process, benchmark, amount)
                except ContenderFailedError as error:
                    found.problems[subject.name] = str(error)
        for number in range(rounds):
            on_round(benchmark, number)
            order = list(numbers)
            random.Random(f"{amount.seed}-{benchmark.name}-{number}").shuffle(order)
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


def options_of(subject: Subject, vendor: str, entry: dict[str, Any] | None) -> dict[str, Any]:
    """Return what a subject's probe is made with."""
    if subject.contender is None or entry is None:
        return subject.options
    config = RunConfig(
        vendor=vendor,
        entry=entry,
        pool_size=4,
        health_checks=subject.health_checks,
    )
    return {**subject.options, "adapter": subject.contender.adapter, "config": config}


def make_tables(provider: DatabaseProvider, entry: dict[str, Any], number: int) -> None:
    """Make further tables, as Django would make those of a model with two foreign keys."""
    if not number:
        return
    from django.db import connections

    with (
        temporary_alias("poolbench_setup", plain_entry(provider.vendor, entry)) as alias,
        connections[alias].cursor() as cursor,
    ):
        for each in range(number):
            for statement in TABLES.replace("NUMBER", str(each)).split(";"):
                cursor.execute(statement)


def _calibrated(process: ProbeProcess, benchmark: MicroBenchmark, amount: Budget) -> int:
    """Return how often a subject does it in a turn, and warm up on the adapter."""
    if benchmark.number is not None:
        return (benchmark.quick_number if amount.quick else None) or benchmark.number
    wanted = amount.seconds * benchmark.longer
    number, taken = WARM_UP, 0.0
    # A few times are no measure: they pay for caches, and for threads that have to be started.
    while taken < wanted * ENOUGH and number < MOST_OPERATIONS:
        taken = number * process.turn(number)["seconds"]
        number = round(number * min(max(wanted / taken, 0.1), 20.0))
    return max(1, min(number, MOST_OPERATIONS))
