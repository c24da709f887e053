"""The HTTP suite: every contender serves the same page from the same database."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from django.db import connections

from pooling.bench import contenders, environment
from pooling.bench.adapters.base import POSTGRESQL, RunConfig
from pooling.bench.aggregation import make_document
from pooling.bench.databases import SetupError, private_provider
from pooling.bench.measurements import TrialReport
from pooling.bench.plan import Cell, Plan
from pooling.bench.processes import WorkerFailedError
from pooling.bench.runner import CellRecords, Record, Step, order
from pooling.bench.workloads import Phase, Workload
from tests.benchmarks.micro.worker import ProbeProcess

from . import targets
from .site import PAGE, USERS, Site, find_missing, prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooling.bench.contenders import Contender
    from pooling.bench.databases import DatabaseProvider
    from pooling.bench.results import Document

CONTENDERS = tuple(
    contenders.CONTENDERS[name] for name in ("stock", "persistent", "pooled", "native")
)
PROCESSES = (1, 4)
THREADS = 8
ROUNDS = 15
ROUNDS_PER_SITE = 3
"""Rounds after which all sites are started anew: what a process costs depends on its memory layout,
which lasts as long as it does."""
SECONDS = 2.0
QUICK_SECONDS = 0.5
WARM_UP = 1000
PROOF = "bench@example.com"
LOAD = "tests.benchmarks.http.load:Load"


def workload_of(processes: int) -> Workload:
    """Return the page as a workload."""
    what = "1 process" if processes == 1 else f"{processes} processes"
    return Workload(
        name=f"http-{processes}",
        title=f"Users list over HTTP, {what}",
        what=(
            f"The demo's list of {USERS:,} users, served by gunicorn with {what} of {THREADS} "
            "threads, to as many clients as there are threads; a new HTTP connection each time."
        ),
        phases=(Phase(f"http-{processes}", "first"),),
    )


WORKLOADS = {(found := workload_of(number)).name: found for number in PROCESSES}


def make_plan(
    *,
    quick: bool,
    contenders: tuple[Contender, ...] | None = None,
    workloads: tuple[Workload, ...] | None = None,
    rounds: int | None = None,
    duration: float | None = None,
    seed: int | None = None,
) -> Plan:
    """Return how much is measured; None for the default."""
    return Plan(
        contenders=contenders or CONTENDERS,
        workloads=workloads or tuple(WORKLOADS.values()),
        rounds=rounds or (3 if quick else ROUNDS),
        duration=duration or (QUICK_SECONDS if quick else SECONDS),
        pool_size=THREADS,
        threads=(THREADS,),
        seed=1 if seed is None else seed,
    )


def steps(plan: Plan) -> int:
    """Return how many turns there are, those for warming up included."""
    turns = plan.rounds + len(_blocks(plan.rounds))
    return turns * len(plan.contenders) * len(plan.workloads or ())


def _blocks(rounds: int) -> list[range]:
    """Return the rounds that have the same sites."""
    return [
        range(first, min(first + ROUNDS_PER_SITE, rounds + 1))
        for first in range(1, rounds + 1, ROUNDS_PER_SITE)
    ]


def measure(plan: Plan, on_step: Callable[[Step], None] = lambda _step: None) -> Document:
    """Run the plan on a private PostgreSQL; return a document with the rows of the targets, too.

    Raises:
        SetupError: something is missing that it takes, or does not work.
    """
    if lack := find_missing():
        raise SetupError(lack)
    begin = time.monotonic()
    about = environment.describe()
    # Twice, since one site's sessions may still be ending when those of the next one begin.
    most = len(plan.contenders) * max(PROCESSES) * THREADS
    with private_provider(POSTGRESQL, most) as provider, provider.new_database() as entry:
        about["servers"][provider.title] = provider.describe()
        session = prepare({**entry, "ENGINE": "django.db.backends.postgresql"})
        cells = [
            _run_cell(provider, plan, _cell(plan, workload), entry, session, on_step)
            for workload in plan.workloads or ()
        ]
    document = make_document(plan, cells, about, [], time.monotonic() - begin)
    return {**document, "rows": targets.rows(cells)}


def _cell(plan: Plan, workload: Workload) -> Cell:
    processes = int(workload.name.rpartition("-")[2])
    return Cell(
        workloads=(workload,),
        threads=processes * THREADS,
        pool_size=THREADS,
        rounds=plan.rounds,
        seconds=plan.duration,
    )


def _run_cell(
    provider: DatabaseProvider,
    plan: Plan,
    cell: Cell,
    entry: dict[str, Any],
    session: str,
    on_step: Callable[[Step], None],
) -> CellRecords:
    records = {each.name: Record(each) for each in plan.contenders if each.missing() is None}
    for block in _blocks(cell.rounds):
        with ExitStack() as stack:
            loads = _sites(stack, cell, records, entry, session)
            for number in (0, *block):
                for name in order(list(loads), number) if loads else []:
                    on_step(Step(provider.title, name, cell.title, cell.threads, number))
                    seconds = cell.seconds or SECONDS
                    milliseconds = round(seconds * 1000) if number else WARM_UP
                    try:
                        report: Any = loads[name].trial(milliseconds)
                    except WorkerFailedError as error:
                        records[name].problem = str(error)
                        del loads[name]
                        continue
                    if number:
                        found = TrialReport({cell.title: report})
                        records[name].rounds[number] = {cell.title: found}
    return CellRecords(provider.title, POSTGRESQL, cell, list(records.values()))


def _sites(
    stack: ExitStack,
    cell: Cell,
    records: dict[str, Record],
    entry: dict[str, Any],
    session: str,
) -> dict[str, ProbeProcess]:
    """Start a site for each contender that has had no problem; return what loads them."""
    loads = {}
    for name, record in records.items():
        if record.problem is not None:
            continue
        try:
            own = entry_of(record.contender, entry, THREADS)
            site = stack.enter_context(Site(own, cell.threads // THREADS, THREADS))
            load = stack.enter_context(ProbeProcess(LOAD))
            load.start()
            load.ready()
            load.open(
                {
                    "port": site.port,
                    "page": PAGE,
                    "session": session,
                    "clients": cell.threads,
                    "proof": PROOF,
                }
            )
            loads[name] = load
        except (SetupError, WorkerFailedError) as error:
            record.problem = str(error)
    return loads


def entry_of(contender: Contender, entry: dict[str, Any], pool_size: int) -> dict[str, Any]:
    """Return the settings a contender has in the load suite, too, for a site of its own."""
    config = RunConfig(vendor=POSTGRESQL, entry=entry, pool_size=pool_size)
    adapter = contender(config)
    # It has made its settings known to this process, which has no use for them.
    found: dict[str, Any] = connections.settings.pop(adapter.alias)
    return {**found, "PORT": str(found["PORT"])}
