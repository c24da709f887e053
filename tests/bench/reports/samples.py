"""A small result document with something of everything, for the tests of what shows documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pooling.bench.adapters.base import FAIR
from pooling.bench.verdict import verdict

if TYPE_CHECKING:
    from pooling.bench.results import Document

CONTENDERS = {
    # name: (title, version, level, operations per second with one thread)
    "stock": ("Stock Django", "Django 5.2.7", "orm", 310.0),
    "pooled": ("pooling", "pooling 0.1.0", "orm", 4400.0),
    "native": ("Django's native pool", "Django 5.2.7", "orm", 4100.0),
    "psycopg2-threaded": ("psycopg2's ThreadedConnectionPool", "psycopg2 2.9.10", "driver", 9000.0),
}
ENVIRONMENT = {
    "taken_at": "2026-11-20T05:00:00+00:00",
    "cpu": "Some processor @ 2.40GHz",
    "cores": 2,
    "load_average": [0.21, 0.3, 0.4],
    "memory_mb": 3906,
    "system": "Linux 6.1",
    "python": "CPython 3.11.7",
    "packages": {"Django": "5.2.7", "psycopg2": "2.9.10"},
    "servers": {"PostgreSQL": {"version": "18.0", "max_connections": "100"}},
}
HOW = {
    "has_pool": True,
    "settings": dict.fromkeys(FAIR, "as usual"),
    "unequal": "",
}
HOSTILE = "</title></svg><script>alert('1')</script>\"&\x1b[31m|"


def result(contender: str, workload: str, threads: int, **changes: Any) -> Any:
    """Make up what a contender did."""
    rate = CONTENDERS[contender][3] * threads**0.5
    ratio = rate / (CONTENDERS["stock"][3] * threads**0.5)
    baseline = contender == "stock"
    milliseconds = 1000 / rate
    return {
        "database": "PostgreSQL",
        "contender": contender,
        "driver": "psycopg2" if contender.startswith("psycopg2") else "psycopg",
        "workload": workload,
        "operation": workload,
        "threads": threads,
        "pool_size": 4,
        "operations": 600,
        "errors": 0,
        "rounds": 7,
        "elapsed_seconds": 14.1,
        "ops_per_second": rate,
        "rank": 1 if contender == "pooled" else 3 if baseline else 2,
        "p50_ms": milliseconds,
        "p99_ms": 3 * milliseconds,
        "p999_ms": 5 * milliseconds,
        "max_ms": 9 * milliseconds,
        "cpu_ms": 0.5,
        "connections_opened": 1600 if baseline else 4,
        "peak_connections": threads,
        "wait_share": 0.02,
        "fairness": 0.97,
        "baseline": baseline,
        "ratio": ratio,
        "ratio_low": ratio if baseline else ratio * 0.9,
        "ratio_high": ratio if baseline else ratio * 1.12,
        "histogram": [[milliseconds, 500], [9 * milliseconds, 100]],
        "rounds_ops_per_second": [rate * 0.95, rate, rate * 1.04] * 2 + [rate],
        "sweep": None,
        "note": None,
        **changes,
    }


def document() -> Document:
    """Return the document, to be changed as you like."""
    results = []
    for database in ("SQLite", "PostgreSQL"):
        for threads in (1, 8):
            for operation in ("read", "total"):
                names = ["stock", "pooled"] if database == "SQLite" else list(CONTENDERS)
                results += [
                    result(name, "crud", threads, database=database, operation=operation)
                    for name in names
                ]
    results += [result(name, "connect", 8) for name in ("stock", "pooled")]
    results.append(
        result(
            *("native", "connect", 8),
            ratio=1.02,
            ratio_low=0.9,
            ratio_high=1.1,
            rank=3,
            ops_per_second=900.0,
            rounds_ops_per_second=[890.0, 910.0, 900.0, 880.0, 905.0, 900.0, 920.0],
        )
    )
    results.append(
        result(
            *("psycopg2-threaded", "connect", 8),
            errors=214,
            rank=None,
            note="214 x PoolError: connection pool exhausted",
        )
    )
    unknown = dict.fromkeys(
        (
            *("ops_per_second", "p50_ms", "p99_ms", "p999_ms", "max_ms", "fairness", "wait_share"),
            *(
                "rank",
                "cpu_ms",
                "ratio",
                "ratio_low",
                "ratio_high",
                "connections_opened",
                "peak_connections",
            ),
        )
    )
    note = "the last caller got PoolTimeout (after 0.500 s)"
    results.append(
        result("pooled", "exhaustion", 5)
        | unknown
        | {"errors": 1, "histogram": [], "rounds_ops_per_second": [], "note": note}
    )
    for value in (1, 10):
        sweep = {"name": "iterations", "value": value}
        results += [result(name, "connect", 1, sweep=sweep) for name in ("stock", "pooled")]
    for value in (1, 2, 4, 8, 16):
        rate = 1000.0 * min(value, 4)
        sweep = {"name": "pool-size", "value": value}
        changes = {"ops_per_second": rate, "rounds_ops_per_second": [rate * 0.9, rate, rate * 1.1]}
        results.append(result("pooled", "connect", 32, sweep=sweep, **changes))
    named = {"crud": "CRUD", "connect": "Connect", "exhaustion": "Exhaustion"}
    found: Any = {
        "schema": 2,
        "verdict": [],
        "interrupted": None,
        "environment": ENVIRONMENT,
        "settings": {"rounds": 7, "threads": [1, 8], "health_checks": False, "duration": None},
        "duration_seconds": 172.4,
        "contenders": [
            {"name": name, "title": title, "version": version, "level": level, **HOW}
            for name, (title, version, level, _rate) in CONTENDERS.items()
        ],
        "workloads": [
            {"name": name, "title": title, "what": f"What {title} does."}
            for name, title in named.items()
        ],
        "left_out": [
            {"contender": "asyncpg", "reason": "not installed: asyncpg"},
            {"contender": "native", "reason": "it stopped", "database": "SQLite"},
        ],
        "warnings": ["the machine was busy before the run: a load of 3 on 2 cores"],
        "results": results,
    }
    found["verdict"] = verdict(found)
    return found


def hostile() -> Document:
    """Return a document whose free texts try to be more than text."""
    found: Any = document()
    found["warnings"] = [HOSTILE]
    for each in found["results"]:
        each["note"] = HOSTILE
    for each in found["contenders"]:
        each["title"] += HOSTILE.replace("\x1b", "")
    found["verdict"] = verdict(found)
    return found


def empty() -> Document:
    """Return the document of a run in which nothing was measured."""
    names = ("contenders", "workloads", "left_out", "warnings", "results")
    found: Any = {**document(), **{name: [] for name in names}}
    found["verdict"] = verdict(found)
    return found
