"""The micro benchmarks, as data: subjects that do the same thing in turns, and targets."""

from __future__ import annotations

from typing import Any

from pooling.bench.adapters.base import POSTGRESQL, SQLITE
from pooling.bench.contenders import CONTENDERS

from .definitions import MicroBenchmark, Subject, Target

PROBES = "tests.benchmarks.micro.probes"

OURS, PSYCOPG_POOL, SQLALCHEMY = "pooling", "psycopg_pool", "SQLAlchemy QueuePool"
NEEDS = {
    OURS: (),
    PSYCOPG_POOL: ("psycopg_pool", "psycopg"),
    SQLALCHEMY: ("sqlalchemy",),
}


def _core(pool: str, probe: str, **options: Any) -> Subject:
    options = {"pool": pool, **options}
    return Subject(name=pool, probe=f"{PROBES}.core:{probe}", needs=NEEDS[pool], options=options)


def _inside(probe: str, name: str = OURS, **options: Any) -> Subject:
    return Subject(
        name=name, probe=f"{PROBES}.internals:{probe}", options=options, needs=NEEDS.get(name, ())
    )


# ---- pools by themselves ---------------------------------------------------------------------


def _acquire_release(threads: int, **options: Any) -> MicroBenchmark:
    what = "1 thread" if threads == 1 else f"{threads} threads on {threads} connections"
    return MicroBenchmark(
        name=f"core-{threads}",
        title=f"core: acquire + release, {what}",
        subjects=(
            _core(OURS, "AcquireRelease", threads=threads),
            _core(PSYCOPG_POOL, "AcquireRelease", threads=threads),
            _core(SQLALCHEMY, "SqlAlchemyAcquireRelease", threads=threads),
        ),
        targets=(
            Target(subject=OURS, against=PSYCOPG_POOL, target=1.0 if threads == 1 else 1.2),
            Target(subject=OURS, against=SQLALCHEMY),
        ),
        **options,
    )


PYTHON = "Python"
FLOOR = MicroBenchmark(
    name="floor",
    title="the floor: what an acquire and a release cannot do without",
    subjects=(
        _core(OURS, "AcquireRelease", threads=1),
        Subject(name=PYTHON, probe=f"{PROBES}.core:Floor"),
    ),
    targets=(
        *(
            Target(subject=PYTHON, metric=metric, what=what)
            for metric, what in (
                ("lock and list", "a lock, twice, and a list"),
                ("poll", "poll(0)"),
                ("clocks", "a clock, twice"),
                ("seconds", "all of them in one loop"),
            )
        ),
        Target(
            subject=OURS, against=PYTHON, what="core: acquire + release", against_what="all of them"
        ),
    ),
)
CONTENDED: dict[str, Any] = {"threads": 32, "size": 4, "hold": 0.001}
CONTENTION = MicroBenchmark(
    name="contention",
    title="32 threads, 4 connections, 1 ms hold",
    number=500,  # milliseconds
    quick_number=100,
    most_rounds=7,
    subjects=tuple(_core(pool, "Contention", **CONTENDED) for pool in NEEDS),
    targets=(
        Target(
            subject=OURS,
            metric="of nominal",
            what="throughput",
            against_what="4,000/s, the ceiling if sleeping for 1 ms took 1 ms",
            unit="share",
            target=0.9,
            at_least=True,
        ),
        Target(
            subject=OURS,
            metric="of measured",
            what="throughput",
            against_what="the ceiling with the hold as it was measured",
            unit="share",
            target=0.9,
            at_least=True,
        ),
        Target(subject=OURS, metric="rate", what="turns per second", unit="rate"),
        Target(subject=OURS, metric="hold", what="the hold as it was measured"),
        Target(subject=OURS, against=PSYCOPG_POOL, metric="rate", what="throughput", unit="rate"),
        Target(subject=OURS, against=SQLALCHEMY, metric="rate", what="throughput", unit="rate"),
        Target(
            subject=OURS,
            metric="jain",
            what="Jain's index over the threads' turns",
            unit="number",
            target=0.99,
            at_least=True,
        ),
        Target(
            subject=OURS,
            metric="worst wait",
            what="worst wait",
            against_what="the mean wait",
            unit="share",
            target=2.0,
        ),
    ),
)
SPIKE = MicroBenchmark(
    name="spike",
    title="cold spike: 50 threads, 150 ms to connect, 2 ms of work",
    number=1,
    most_rounds=7,
    subjects=tuple(
        _core(pool, "Spike", threads=50, connect_seconds=0.15, work=0.002)
        for pool in (OURS, PSYCOPG_POOL)
    ),
    targets=(
        Target(subject=OURS, metric="connects", what="connections opened", unit="number", target=5),
        Target(
            subject=OURS, against=PSYCOPG_POOL, what="time until the last has finished", target=1.0
        ),
        Target(subject=PSYCOPG_POOL, metric="connects", what="connections opened", unit="number"),
    ),
)

# ---- through Django --------------------------------------------------------------------------


def _django(name: str, contender: str, probe: str = "Request", **options: Any) -> Subject:
    found = CONTENDERS[contender]
    return Subject(
        name=name,
        probe=f"{PROBES}.backends:{probe}",
        contender=found,
        health_checks=options.pop("health_checks", False),
        needs=found.needs,
        blocked=("psycopg",) if name.endswith("(psycopg2)") else (),
        options=options,
    )


OURS_3, OURS_2 = "pooling (psycopg 3)", "pooling (psycopg2)"
PERSISTENT_3, PERSISTENT_2 = "persistent (psycopg 3)", "persistent (psycopg2)"
NATIVE, NATIVE_CHECKED = "native pool", "native pool with health checks"
DDCP = "django-db-connection-pool"
DDCP_3, DDCP_2 = f"{DDCP} (psycopg 3)", f"{DDCP} (psycopg2)"
DDCP_UNTESTED = f"{DDCP} without PRE_PING (psycopg 3)"

NO_QUERY = MicroBenchmark(
    name="django-no-query",
    title="Django: acquire + release, no query",
    vendor=POSTGRESQL,
    is_fresh=True,
    subjects=(
        _django(OURS_3, "pooled"),
        _django(OURS_2, "pooled"),
        _django(NATIVE, "native"),
        _django(NATIVE_CHECKED, "native", health_checks=True),
        # As it comes: it tests every connection unless it is told not to.
        _django(DDCP_3, DDCP, health_checks=True),
        _django(DDCP_2, DDCP, health_checks=True),
        _django(DDCP_UNTESTED, DDCP),
        _django(PERSISTENT_3, "persistent"),
    ),
    targets=(
        Target(subject=OURS_3, against=NATIVE, target=0.45),
        Target(subject=OURS_2, against=NATIVE, target=0.45),
        Target(subject=OURS_3, against=NATIVE_CHECKED, target=0.15),
        Target(subject=OURS_2, against=NATIVE_CHECKED, target=0.15),
        Target(subject=OURS_3, against=DDCP_3, target=0.15),
        Target(subject=OURS_2, against=DDCP_2, target=0.15),
        Target(subject=OURS_3, against=DDCP_UNTESTED),
        # What Django itself does there, with a connection that stays.
        Target(subject=PERSISTENT_3, what="with CONN_MAX_AGE=None"),
    ),
)
ONE = "SELECT 1"
SELECT = MicroBenchmark(
    name="django-select",
    title="Django: the same with SELECT 1",
    vendor=POSTGRESQL,
    is_fresh=True,
    longer=2.0,
    subjects=(
        _django(OURS_3, "pooled", query=ONE),
        _django(PERSISTENT_3, "persistent", query=ONE),
        _django(OURS_2, "pooled", query=ONE),
        _django(PERSISTENT_2, "persistent", query=ONE),
        _django(NATIVE, "native", query=ONE),
    ),
    targets=(
        Target(subject=OURS_3, against=PERSISTENT_3, target=1.1),
        Target(subject=OURS_2, against=PERSISTENT_2, target=1.1),
        Target(subject=OURS_3, against=NATIVE),
    ),
)
THREADS = 8
THREADED = MicroBenchmark(
    name="django-threads",
    title=f"Django: SELECT 1 by {THREADS} threads on {THREADS} connections",
    vendor=POSTGRESQL,
    longer=10.0,
    is_fresh=True,
    more_rounds=2,
    subjects=tuple(
        _django(name, contender, probe="ThreadedRequest", query=ONE, threads=THREADS)
        for name, contender in (
            *((OURS_3, "pooled"), (PERSISTENT_3, "persistent"), (NATIVE, "native")),
            *((OURS_2, "pooled"), (PERSISTENT_2, "persistent")),
        )
    ),
    targets=(
        Target(subject=OURS_3, against=PERSISTENT_3, target=1.05),
        Target(subject=OURS_3, against=NATIVE, target=1.05),
        Target(subject=OURS_2, against=PERSISTENT_2, target=1.05),
    ),
)
SQLITE_READ = MicroBenchmark(
    name="sqlite-read",
    title="SQLite file with 60 tables: one ORM read per acquire",
    vendor=SQLITE,
    tables=60,
    is_fresh=True,
    more_rounds=3,
    subjects=(
        _django(OURS, "pooled", probe="OrmRead"),
        _django("stock backend", "stock", probe="OrmRead"),
        _django("persistent", "persistent", probe="OrmRead"),
    ),
    targets=(
        Target(subject=OURS, against="persistent", target=1.15),
        Target(subject=OURS, against="stock backend"),
        # The read by itself: what no pool can go below.
        Target(subject="persistent", against="stock backend"),
    ),
)

# ---- at rest, and at size --------------------------------------------------------------------

IDLE_THREADS = MicroBenchmark(
    name="idle-threads",
    title="idle process with 10 pools",
    number=10,
    most_rounds=1,
    subjects=tuple(
        Subject(
            name=pool,
            probe=f"{PROBES}.internals:Threads",
            needs=NEEDS[pool],
            options={"pool": pool},
        )
        for pool in (OURS, PSYCOPG_POOL)
    ),
    targets=(
        Target(subject=OURS, metric="threads", what="threads", unit="number", target=1),
        Target(subject=PSYCOPG_POOL, metric="threads", what="threads", unit="number"),
    ),
)
MEMORY = MicroBenchmark(
    name="memory",
    title="memory",
    number=500,
    quick_number=100,
    most_rounds=3,
    subjects=(_inside("Memory"),),
    targets=(
        Target(
            subject=OURS,
            metric="idle",
            what="per idle connection, beyond the driver's own",
            unit="bytes",
            target=2048,
        ),
        Target(subject=OURS, metric="waiter", what="per waiter", unit="bytes", target=2048),
    ),
)
BACKEND = "pooling.backends.postgresql.base"
IMPORT = MicroBenchmark(
    name="import",
    title="import in a new interpreter",
    number=1,
    subjects=(
        _inside("Import", module="pooling", before="django.db"),
        _inside("Import", BACKEND, module=BACKEND, before="django.db.backends.postgresql.base"),
        _inside("Import", PSYCOPG_POOL, module="psycopg_pool", before="psycopg"),
    ),
    targets=(
        Target(subject=OURS, what="beyond django.db", target=0.015),
        Target(subject=OURS, metric="processor", what="beyond django.db, processor time"),
        Target(subject=BACKEND, what="beyond Django's"),
        Target(subject=PSYCOPG_POOL, what="beyond psycopg"),
    ),
)
FLAT = 1.15
"""What still counts as flat: a thousand connections do not fit into the cache where one does."""

IDLE_SIZES = ("1", "10", "100", "1000")
QUEUE_SIZES = ("1", "100", "1000", "10000")


def _numbers(sizes: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(map(int, sizes))


FLAT_IDLE = MicroBenchmark(
    name="flat-idle",
    title="acquire + release",
    number=5_000,
    subjects=(
        Subject(name=OURS, probe=f"{PROBES}.core:Sizes", options={"sizes": _numbers(IDLE_SIZES)}),
    ),
    targets=tuple(
        Target(
            subject=OURS,
            against=OURS,
            metric=size,
            over="1",
            what=f"with {int(size):,} idle connections",
            against_what="with 1",
            target=FLAT,
        )
        for size in IDLE_SIZES[1:]
    ),
)
FLAT_QUEUE = MicroBenchmark(
    name="flat-queue",
    title="hand-off",
    number=500,
    subjects=(_inside("HandOff", sizes=_numbers(QUEUE_SIZES)),),
    targets=tuple(
        Target(
            subject=OURS,
            against=OURS,
            metric=size,
            over="1",
            what=f"with {int(size):,} waiters",
            against_what="with 1",
            target=FLAT,
        )
        for size in QUEUE_SIZES[1:]
    ),
)
MAINTENANCE = MicroBenchmark(
    name="maintenance",
    title="maintenance of 1,000 idle connections",
    number=20,
    subjects=(Subject(name=OURS, probe=f"{PROBES}.core:Maintained", options={"idle": 1000}),),
    targets=(
        # Python lets another thread run after 5 ms at the latest: shorter than that is no delay
        # that a pool could be blamed for.
        Target(
            subject=OURS,
            metric="maintained",
            what="longest acquire + release meanwhile",
            target=0.005,
        ),
        Target(subject=OURS, metric="calm", what="longest acquire + release without it"),
        Target(subject=OURS, metric="maintenance", what="its own time"),
    ),
)

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        _acquire_release(1),
        # So often that each thread has to give way to the others several times before it is done.
        # That is not left to the clock, which such a crowd slows down.
        _acquire_release(16, number=160_000, quick_number=16_000, most_rounds=7, is_fresh=True),
        FLOOR,
        NO_QUERY,
        SELECT,
        THREADED,
        SQLITE_READ,
        CONTENTION,
        SPIKE,
        IDLE_THREADS,
        MEMORY,
        IMPORT,
        FLAT_IDLE,
        FLAT_QUEUE,
        MAINTENANCE,
    )
}
