"""Documents to render: one with everything in it, and ways to spoil it."""

from __future__ import annotations

import bisect
import copy
import functools
import math
import random
from typing import Any

CONTENDERS = {
    # name: (title, version, level, median ms with one thread, spread, how it grows with threads)
    "stock": ("Stock Django", "5.2.7", "orm", 2.9, 0.25, 0.85),
    "persistent": ("Persistent connections", "5.2.7", "orm", 0.16, 0.3, 0.7),
    "pooled": ("pooling (psycopg 3)", "0.1.0", "orm", 0.17, 0.3, 0.7),
    "pooled-psycopg2": ("pooling (psycopg2)", "0.1.0", "orm", 0.15, 0.3, 0.7),
    "native": ("Django's native pool", "5.2.7", "orm", 0.2, 0.32, 0.7),
    "dj-db-conn-pool": ("django-db-connection-pool", "1.2.6", "orm", 0.24, 0.4, 0.6),
    "bare": ("A bare connection per operation", "3.2.1", "driver", 2.3, 0.25, 0.85),
    "psycopg2-pool": ("psycopg2 ThreadedConnectionPool", "2.9.10", "driver", 0.08, 0.3, 0.7),
    "psycopg-pool": ("psycopg_pool", "3.2.6", "driver", 0.09, 0.3, 0.7),
    "sqlalchemy": ("SQLAlchemy QueuePool", "2.0.44", "driver", 0.1, 0.5, 0.7),
    "asyncpg": ("asyncpg's pool", "0.30.0", "driver", 0.07, 0.3, 0.7),
}
BASELINES = {"stock", "bare"}
WORKLOADS = [
    {"name": "crud", "title": "CRUD", "what": "Insert, read, update and delete users, one by one."},
    {"name": "connect", "title": "Connect", "what": "Acquire, one trivial query, release."},
    {"name": "contention", "title": "Contention", "what": "More threads than connections."},
    {"name": "exhaustion", "title": "Exhaustion", "what": "A pool that is held empty."},
]
OPERATIONS = ("insert", "read", "update", "delete", "total")
ENVIRONMENT = {
    "taken_at": "2026-11-20T05:00:00+00:00",
    "cpu": "Some processor @ 2.40GHz",
    "cores": 2,
    "load_average": [0.21, 0.3, 0.4],
    "memory_mb": 3906,
    "system": "Linux 6.1",
    "python": "CPython 3.11.7",
    "packages": {"Django": "5.2.7", "psycopg": "3.2.1", "psycopg2": "2.9.10"},
    "servers": {
        "PostgreSQL": {"version": "18.0", "max_connections": "100"},
        "SQLite": {"version": "3.45"},
    },
}


def result(
    contender: str,
    workload: str,
    threads: int,
    *,
    database: str = "PostgreSQL",
    operation: str | None = None,
    speed: float = 1.0,
    seed: int = 1,
    sweep: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Make up what a contender did: its times are log-normal."""
    draw = random.Random(f"{seed}-{contender}-{workload}-{threads}-{database}-{operation}-{sweep}")
    *_, median, spread, _grows = CONTENDERS[contender]
    median *= speed * max(1.0, threads / 3)
    if database == "SQLite":
        median /= 12
    times = sorted(median * math.exp(draw.gauss(0, spread)) for _ in range(600))
    # Some had to wait: a second hump.
    if threads > 4:
        times = sorted(each * (4 if draw.random() < 0.15 else 1) for each in times)
    rounds = [threads * 1000 / (sum(times) / 600) * draw.uniform(0.94, 1.06) for _ in range(7)]
    bounds = [0.001 * 1.25**step for step in range(80)]
    places = [bisect.bisect_right(times, upper) for upper in bounds]
    counts = [
        (upper, after - before)
        for upper, before, after in zip(bounds, [0, *places], places, strict=False)
    ]
    return {
        "database": database,
        "contender": contender,
        "workload": workload,
        "operation": operation or workload,
        "threads": threads,
        "operations": 600,
        "errors": 0,
        "rounds": 7,
        "ops_per_second": sorted(rounds)[3],
        "p50_ms": times[300],
        "p95_ms": times[570],
        "p99_ms": times[594],
        "max_ms": times[-1],
        "connections_opened": 600 if contender in BASELINES else 4,
        "peak_connections": threads if contender in BASELINES else 4,
        "wait_share": None if contender in BASELINES else 0.02 * threads,
        "fairness": draw.uniform(0.2, 0.5) if contender == "sqlalchemy" else 0.97,
        "baseline": contender in BASELINES,
        "ratio": None,
        "ratio_low": None,
        "ratio_high": None,
        "histogram": [[upper, count] for upper, count in counts if count],
        "rounds_ops_per_second": rounds,
        "sweep": sweep,
        "note": None,
    }


def with_ratios(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    levels = {name: each[2] for name, each in CONTENDERS.items()}
    base = {levels[each["contender"]]: each for each in results if each["baseline"]}
    for each in results:
        found = base[levels[each["contender"]]]
        each["ratio"] = each["ops_per_second"] / found["ops_per_second"]
        each["ratio_low"], each["ratio_high"] = each["ratio"] * 0.9, each["ratio"] * 1.12
        if each is found:
            each["ratio_low"] = each["ratio_high"] = 1.0
    return results


def document() -> dict[str, Any]:
    """Return a document in which there is something of everything, to be changed as you like."""
    return copy.deepcopy(_document())


@functools.cache
def _document() -> dict[str, Any]:
    results = []
    for database in ("PostgreSQL", "SQLite"):
        names = [
            name
            for name, each in CONTENDERS.items()
            if database == "PostgreSQL" or name in ("stock", "persistent", "pooled")
        ]
        for threads in (1, 8, 32):
            for operation in OPERATIONS:
                results += with_ratios(
                    [
                        result(
                            name,
                            "crud",
                            threads,
                            database=database,
                            operation=operation,
                            speed=0.6 if operation == "read" else 1.1,
                        )
                        for name in names
                    ]
                )
            for workload in ("connect", "contention"):
                results += with_ratios(
                    [result(name, workload, threads, database=database) for name in names]
                )
    for each in results:
        if each["contender"] == "psycopg2-pool" and each["workload"] == "contention":
            each["errors"], each["note"] = 214, "connection pool exhausted (214 times)"
    for name in ("pooled", "native", "psycopg2-pool"):
        each = result(name, "exhaustion", 8)
        each |= {"ops_per_second": None, "errors": 8, "operations": 0, "histogram": []}
        each |= dict.fromkeys(("p50_ms", "p95_ms", "p99_ms", "max_ms", "fairness"))
        each["note"] = f"PoolTimeout after 1.0 s: no connection for {name}"
        results.append(each)
    for value in (1, 10, 100, 1000):
        found = with_ratios(
            [
                result(name, "connect", 1, sweep={"name": "iterations", "value": value})
                for name in ("stock", "pooled", "native")
            ]
        )
        for each in found:
            if not each["baseline"]:
                grow = (value + 0.05) / (value + 12)
                for key in ("ratio", "ratio_low", "ratio_high"):
                    each[key] = max(each[key] * grow, 0.6)
        results += found
    for value in (1, 2, 3, 4, 5, 6, 8, 12, 16, 32):
        for name in ("pooled", "native"):
            each = result(name, "contention", 32, sweep={"name": "pool-size", "value": value})
            each["ops_per_second"] *= min(value, 4) / 4 * (1 - 0.004 * max(0, value - 4))
            each["p99_ms"] *= 4 / min(value, 4) * (1 + 0.03 * max(0, value - 6))
            results.append(each)
    return {
        "schema": 1,
        "environment": ENVIRONMENT,
        "settings": {"rounds": 7, "iterations": 80, "threads": [1, 8, 32], "pool_size": 4},
        "duration_seconds": 172.4,
        "contenders": [
            {"name": name, "title": each[0], "version": each[1], "level": each[2]}
            | {"how": f"As the documentation of {each[0]} advises."}
            for name, each in CONTENDERS.items()
        ],
        "workloads": WORKLOADS,
        "left_out": [
            {"contender": "gevent-pool", "reason": "not installed: pip install gevent-pool"},
            {"contender": "native", "reason": "works on PostgreSQL only", "database": "SQLite"},
        ],
        "warnings": ["PostgreSQL, connect, 8 threads: noise is larger than the difference"],
        "results": results,
    }


HOSTILE = "</title></svg><script>alert('1')</script>\"&\x1b[31m"


def hostile() -> dict[str, Any]:
    """Return a document whose every text tries to be more than text."""

    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spoil(each) for key, each in value.items()}
        if isinstance(value, list):
            return [spoil(each) for each in value]
        return value + HOSTILE if isinstance(value, str) else value

    small = document()
    small["results"] = small["results"][:12] + small["results"][-8:]
    spoilt: dict[str, Any] = spoil(small)
    for info, kept in zip(spoilt["contenders"], small["contenders"], strict=True):
        info["level"] = kept["level"]
    for each, kept in zip(spoilt["results"], small["results"], strict=True):
        each["sweep"] = kept["sweep"]
    return spoilt


def hollow() -> dict[str, Any]:
    """Return a document in which every figure is None."""
    found = document()
    for each in found["results"]:
        for key, value in each.items():
            if isinstance(value, int | float) and key != "baseline":
                each[key] = None
        each["histogram"], each["note"] = None, None
        each["rounds_ops_per_second"] = None
    found["environment"]["cores"] = None
    return found


EMPTY: dict[str, Any] = {
    "schema": 1,
    "environment": {},
    "settings": {},
    "duration_seconds": 0.0,
    "contenders": [],
    "workloads": [],
    "left_out": [],
    "warnings": [],
    "results": [],
}
