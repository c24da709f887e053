"""The result document: what a benchmark returns, what reports show, and what `--json` writes.

It is a plain dict of JSON values. Names and meanings of schema 1 do not change; names may be added.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

SCHEMA = 1

# Which part of a contender stands between the measured code and the database.
Level = Literal["orm", "driver", "simulated"]

# The operation that sums up all the others of a workload.
TOTAL = "total"


class Sweep(TypedDict):
    """The option that varies from one result to the next, and its value for this one."""

    name: Literal["iterations", "pool-size"]
    value: int


class Result(TypedDict):
    """What one contender did in one workload with one number of threads.

    A figure that could not be measured, because nothing succeeded or nothing was counted, is None.
    """

    database: str  # "SQLite", "PostgreSQL" or "simulated"
    contender: str
    workload: str
    operation: str  # of crud: insert, read, update, delete, total; else the workload's name
    threads: int
    operations: int  # that succeeded, in all measured rounds together
    errors: int  # operations that failed, in all measured rounds together
    rounds: int
    ops_per_second: float | None  # the median over the rounds
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    connections_opened: int | None  # at the server, the warm-up's included: pools open theirs there
    peak_connections: int | None  # open at the same time
    wait_share: float | None  # of the operations' time, the part until they had a connection: 0..1
    fairness: float | None  # Jain's index over the threads' operations: 1/threads..1
    baseline: bool
    ratio: float | None  # times the baseline's operations per second; of the baseline itself 1.0
    ratio_low: float | None  # a 95 % interval around it
    ratio_high: float | None
    histogram: list[tuple[float, int]]  # (upper bound in ms, operations), log-spaced, no gaps
    rounds_ops_per_second: list[float]
    sweep: Sweep | None
    note: str | None  # what happened, in words: errors seen, how the last caller failed


class ContenderInfo(TypedDict):
    """A contender that took part."""

    name: str
    title: str
    version: str
    how: str  # one neutral sentence on how it is used
    level: Level


class WorkloadInfo(TypedDict):
    """A workload that was measured."""

    name: str
    title: str
    what: str  # one sentence


class LeftOut(TypedDict):
    """A contender that did not take part, at all or at one of the databases."""

    contender: str
    reason: str
    database: NotRequired[str]


class Environment(TypedDict):
    """Where and with what it was measured."""

    taken_at: str  # ISO 8601, UTC
    cpu: str
    cores: int
    load_average: list[float] | None  # before the run: over 1, 5 and 15 minutes
    memory_mb: int | None
    system: str
    python: str
    packages: dict[str, str]  # drivers and pools by name
    servers: dict[str, dict[str, str]]  # by database: "version" and the settings that matter


class Document(TypedDict):
    """All of a run."""

    schema: int
    environment: Environment
    settings: dict[str, Any]  # the options: "rounds", "iterations", "threads", "pool_size"...
    contenders: list[ContenderInfo]
    workloads: list[WorkloadInfo]
    results: list[Result]
    left_out: list[LeftOut]
    warnings: list[str]
    duration_seconds: float


def is_clear(result: Result) -> bool | None:
    """Whether the interval of the ratio lies on one side of 1; None if there is no interval."""
    low, high = result["ratio_low"], result["ratio_high"]
    return None if low is None or high is None else not low <= 1 <= high
