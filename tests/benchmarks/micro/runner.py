"""Runs micro benchmarks: every subject in a process of its own, all of them in turns."""

from __future__ import annotations

import math
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import connections

from pooling.bench import environment
from pooling.bench.adapters.base import RunConfig
from pooling.bench.databases import SetupError, private_provider
from pooling.bench.environment import missing_modules
from pooling.bench.processes import WorkerFailedError
from pooling.bench.statements import TABLE

from .results import make_document
from .worker import ProbeProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pooling.bench.databases import DatabaseProvider

    from .definitions import MicroBenchmark, Subject
    from .results import MicroDocument

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
        seconds: how long a trial takes, about.
        seed: for the order of trials.
        quick: whether a first impression is enough.
    """

    rounds: int = 15
    seconds: float = 0.05
    seed: int = 1
    quick: bool = False


QUICK = Budget(rounds=3, seconds=0.005, quick=True)


@dataclass(slots=True)
class Found:
    """What a micro benchmark measured.

    Attributes:
        rounds: by round, what each subject measured.
        problems: by subject, why it did not take part, or not to the end.
    """

    benchmark: MicroBenchmark
    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def measure(
    benchmarks: Sequence[MicroBenchmark],
    budget: Budget,
    on_benchmark: Callable[[MicroBenchmark], None] = lambda _: None,
) -> MicroDocument:
    """Run benchmarks. Without a database that one of them needs, the others go on."""
    begin = time.monotonic()
    about = environment.describe()
    providers: dict[str, DatabaseProvider] = {}
    refusals: dict[str, str] = {}
    found = []
    with ExitStack() as stack:
        for benchmark in benchmarks:
            on_benchmark(benchmark)
            vendor = benchmark.vendor
            if vendor and vendor not in providers and vendor not in refusals:
                try:
                    provider = stack.enter_context(private_provider(vendor))
                    about["servers"][provider.title] = provider.describe()
                    providers[vendor] = provider
                except SetupError as error:
                    refusals[vendor] = str(error)
            if vendor in refusals:
                names = [subject.name for subject in benchmark.subjects]
                found.append(Found(benchmark, problems=dict.fromkeys(names, refusals[vendor])))
            else:
                found.append(run(benchmark, budget, providers.get(vendor)))
    return make_document(found, budget, about, time.monotonic() - begin)


def run(
    benchmark: MicroBenchmark, budget: Budget, provider: DatabaseProvider | None = None
) -> Found:
    """Run one benchmark. A subject that fails does not stop the others."""
    found = Found(benchmark)
    rounds = budget.rounds if budget.quick else budget.rounds * benchmark.more_rounds
    rounds = min(rounds, benchmark.most_rounds or rounds)
    with ExitStack() as stack:
        entry = None
        if provider is not None:
            entry = stack.enter_context(provider.new_database())
            provider.prepare(entry)
            make_tables(provider, entry, benchmark.tables - 1)
        numbers: dict[str, int] = {}
        blocks = [[number] for number in range(rounds)] if benchmark.is_fresh else [range(rounds)]
        for block in blocks:
            _run_block(found, budget, entry, block, numbers)
    return found


def _run_block(
    found: Found,
    budget: Budget,
    entry: dict[str, Any] | None,
    rounds: Sequence[int],
    numbers: dict[str, int],
) -> None:
    """Run some rounds, with processes of their own.

    Args:
        numbers: how often each subject does it in a trial, as far as that is known.
    """
    benchmark = found.benchmark
    with ExitStack() as stack:
        processes = {}
        for subject in benchmark.subjects:
            if subject.name in found.problems:
                continue
            if lack := missing_modules(subject.needs):
                found.problems[subject.name] = lack
                continue
            process = stack.enter_context(ProbeProcess(subject.probe, subject.blocked))
            process.start()
            processes[subject.name] = process
        for subject in benchmark.subjects:
            if (ready := processes.get(subject.name)) is not None:
                try:
                    ready.ready()
                    ready.open(options_of(subject, benchmark.vendor, entry))
                    if subject.name in numbers:
                        ready.trial(math.ceil(numbers[subject.name] * ENOUGH))
                    else:
                        numbers[subject.name] = _calibrated(ready, benchmark, budget)
                except WorkerFailedError as error:
                    found.problems[subject.name] = str(error)
        able = [name for name in processes if name not in found.problems]
        for number in rounds:
            order = list(able)
            random.Random(f"{budget.seed}-{benchmark.name}-{number}").shuffle(order)
            measured = {}
            for name in order:
                try:
                    measured[name] = processes[name].trial(numbers[name])
                except WorkerFailedError as error:
                    found.problems[name] = str(error)
                    able.remove(name)
            found.rounds.append(measured)
        for name in able:
            try:
                processes[name].close()
            except WorkerFailedError as error:
                found.problems[name] = str(error)


def options_of(subject: Subject, vendor: str, entry: dict[str, Any] | None) -> dict[str, Any]:
    """Return what a subject's probe is made with."""
    if subject.contender is None or entry is None:
        return subject.options
    checks = subject.health_checks
    config = RunConfig(vendor=vendor, entry=entry, pool_size=4, health_checks=checks)
    return {**subject.options, "adapter": subject.contender.path(), "config": config}


def make_tables(provider: DatabaseProvider, entry: dict[str, Any], number: int) -> None:
    """Make further tables, as Django would make those of a model with two foreign keys."""
    if not number:
        return
    with provider.setup_alias(entry) as alias, connections[alias].cursor() as cursor:
        for each in range(number):
            for statement in TABLES.replace("NUMBER", str(each)).split(";"):
                cursor.execute(statement)


def _calibrated(process: ProbeProcess, benchmark: MicroBenchmark, budget: Budget) -> int:
    """Return how often a subject does it in a trial, and warm up on the way."""
    if benchmark.number is not None:
        return (benchmark.quick_number if budget.quick else None) or benchmark.number
    wanted = budget.seconds * benchmark.longer
    number, taken = WARM_UP, 0.0
    # A few times are no measure: they pay for caches, and for threads that have to be started.
    while taken < wanted * ENOUGH and number < MOST_OPERATIONS:
        taken = number * process.trial(number)["seconds"]
        number = round(number * min(max(wanted / taken, 0.1), 20.0))
    return max(1, min(number, MOST_OPERATIONS))
