"""The result document says what the reports say, and where they say nothing."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from pooling.bench.aggregation import make_document, results_of
from pooling.bench.contenders import CONTENDERS
from pooling.bench.environment import describe
from pooling.bench.measurements import (
    ConnectionCounts,
    PhaseReport,
    Samples,
    TrialReport,
    describe_error,
)
from pooling.bench.plan import Cell, Plan
from pooling.bench.runner import CellRecords, Record
from pooling.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from pooling.bench.contenders import Contender
    from pooling.bench.results import Document

OPERATIONS = 20
STOCK, PERSISTENT, POOLED, SQLALCHEMY = (
    CONTENDERS[name] for name in ("stock", "persistent", "pooled", "sqlalchemy")
)


def phase(seconds: float, errors: int = 0) -> PhaseReport:
    """A phase of 20 operations, by two clients of whom one does three of four."""
    return PhaseReport(
        latencies=[seconds] * OPERATIONS,
        acquiring=seconds * OPERATIONS / 4,
        errors=Counter({"Oops": errors} if errors else {}),
        seconds=seconds * OPERATIONS,
        rates=[0.25, 0.75],
        cpu=0.1,
    )


def record(contender: Contender, times: list[float], errors: int = 0) -> Record:
    rounds = {
        number: {"connect": TrialReport({"connect": phase(seconds, errors)})}
        for number, seconds in enumerate(times, start=1)
    }
    return Record(contender, rounds, ConnectionCounts(5, 2))


def document(*records: Record, plan: Plan | None = None, load: float = 0.0) -> Document:
    cell = Cell(workloads=(WORKLOADS["connect"],), threads=2, pool_size=2, rounds=9)
    environment = describe()
    environment["load_average"] = [load] * 3
    environment["cores"] = 2
    found = CellRecords("SQLite", "sqlite", cell, list(records))
    return make_document(plan or Plan(), [found], environment, [], 1.0)


def noisy(seed: int, seconds: float, rounds: int = 9) -> list[float]:
    rng = random.Random(seed)
    return [seconds * rng.uniform(0.8, 1.2) for _ in range(rounds)]


def test_a_difference_has_a_ratio_and_a_missing_one_a_warning() -> None:
    found = document(
        record(STOCK, noisy(1, 0.03)),
        record(POOLED, noisy(2, 0.01)),
        record(PERSISTENT, noisy(1, 0.03)[::-1]),
    )
    stock, pooled, persistent = found["results"]
    assert (stock["baseline"], stock["ratio"]) == (True, 1.0)
    assert pooled["ratio_low"] < 3 < pooled["ratio_high"]
    assert persistent["ratio_low"] <= 1 <= persistent["ratio_high"]
    assert [each["rank"] for each in (pooled, stock, persistent)] == [1, 2, 2]
    assert found["warnings"] == []


def test_the_baseline_may_be_chosen() -> None:
    records = record(STOCK, [0.02] * 5), record(POOLED, [0.01] * 5)
    stock, pooled = document(*records, plan=Plan(baseline="pooled"))["results"]
    assert (stock["baseline"], stock["ratio"]) == (False, 0.5)
    assert (pooled["baseline"], pooled["ratio"]) == (True, 1.0)


def test_a_busy_machine_and_few_rounds_are_warned_of() -> None:
    found = document(record(STOCK, [0.02] * 3), record(POOLED, [0.01] * 3), load=2.5)
    assert [warning.partition(":")[0] for warning in found["warnings"]] == [
        "the machine was busy before the run",
        "with fewer than 7 rounds (here 3) the intervals are too narrow",
    ]


def test_the_numbers_of_one_result() -> None:
    [result] = document(record(SQLALCHEMY, [0.01, 0.02, 0.04], errors=2))["results"]
    assert result["operations"] == 3 * OPERATIONS
    assert (result["errors"], result["note"]) == (6, "6 x Oops")
    assert result["ops_per_second"] == pytest.approx(50)
    # Of 60 operations no p99 is known.
    assert (result["p50_ms"], result["p99_ms"], result["max_ms"]) == (20, None, 40)
    assert result["elapsed_seconds"] == pytest.approx(1.4)
    assert result["cpu_ms"] == pytest.approx(1000 * 3 * 0.1 / (3 * OPERATIONS + 6), rel=1e-3)
    assert result["wait_share"] == pytest.approx(0.25)
    assert result["fairness"] == pytest.approx(0.8)
    assert (result["connections_opened"], result["peak_connections"]) == (5, 2)
    assert sum(count for _, count in result["histogram"]) == 3 * OPERATIONS


def test_rounds_that_one_side_lost_are_not_compared() -> None:
    lost = record(POOLED, [0.01] * 5)
    del lost.rounds[2], lost.rounds[4]
    lost.problem = "stopped: no answer within 30 s"
    _, pooled = document(record(STOCK, [0.02, 9, 0.02, 9, 0.02]), lost)["results"]
    assert (pooled["rounds"], pooled["ratio_low"], pooled["ratio_high"]) == (3, 2.0, 2.0)
    assert pooled["note"] == "stopped: no answer within 30 s"


def test_a_contender_that_did_nothing_has_no_numbers() -> None:
    nothing = Record(POOLED, problem="its process has ended (7)")
    _, pooled = document(record(STOCK, [0.02] * 5), nothing)["results"]
    for name in ("ops_per_second", "p50_ms", "max_ms", "ratio", "wait_share", "fairness"):
        assert pooled[name] is None, name
    assert (pooled["operations"], pooled["rounds"], pooled["histogram"]) == (0, 0, [])


def test_several_operations_have_a_total() -> None:
    cell = Cell(workloads=(WORKLOADS["crud"],), threads=1, pool_size=2, rounds=1)
    names = [each.operation for each in WORKLOADS["crud"].phases]
    trial = TrialReport({name: phase(0.01) for name in names})
    found = results_of(
        Plan(), CellRecords("SQLite", "sqlite", cell, [Record(STOCK, {1: {"crud": trial}})])
    )
    assert [each["operation"] for each in found] == [*names, "total"]
    assert found[-1]["operations"] == 4 * OPERATIONS
    assert found[-1]["ops_per_second"] == pytest.approx(100)


def test_a_contender_that_is_not_installed_is_listed_with_the_reason() -> None:
    absent = type("Absent", (POOLED,), {"name": "absent", "needs": ("no_such_module",)})
    found = document(record(STOCK, [0.02]), plan=Plan(contenders=(STOCK, absent)))
    assert found["left_out"] == [
        {
            "contender": "absent",
            "reason": "not installed: no_such_module; pip install 'django-pooling[bench]'",
        }
    ]
    assert [each["name"] for each in found["contenders"]] == ["stock"]


def test_an_error_is_one_line_of_bounded_length() -> None:
    assert describe_error(ValueError("a\n  b\x1b[31m")) == "ValueError: a b [31m"
    assert describe_error(TimeoutError()) == "TimeoutError"
    assert len(describe_error(ValueError("x" * 1000))) < 200


def test_clients_do_not_wait_for_the_last_operation_of_others() -> None:
    """Else a rate by time would be lower the slower its operations are."""
    fast = Samples(latencies=[0.1] * 10, begin=5.0, end=6.0)
    slow = Samples(latencies=[1.5], begin=5.0, end=6.5)
    assert PhaseReport.of([fast, slow], by_time=True).seconds == 1.25
    assert PhaseReport.of([fast, slow]).seconds == 1.5
