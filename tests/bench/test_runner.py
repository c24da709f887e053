"""Contenders take turns fairly, failures are reported, and nothing is left behind."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from django.db import connections

from pooling.bench import processes, runner
from pooling.bench.aggregation import make_document
from pooling.bench.contenders import CONTENDERS
from pooling.bench.databases import SetupError
from pooling.bench.environment import describe
from pooling.bench.plan import Plan
from pooling.bench.runner import Step, order, run
from pooling.bench.workloads import WORKLOADS
from tests.bench import misbehaving
from tests.bench.conftest import is_gone, leftovers
from tests.bench.misbehaving import contender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pooling.bench.databases import (
        DatabaseProvider,
        PostgresProvider,
        SimulatedProvider,
        SqliteProvider,
    )
    from pooling.bench.results import Document, Result

FAST = {"simulated_open": 0.01, "simulated_query": 0.002}
STOCK, PERSISTENT, POOLED = (CONTENDERS[name] for name in ("stock", "persistent", "pooled"))
SIMULATED = (CONTENDERS["simulated-unpooled"], CONTENDERS["simulated-pooled"])


def measure(provider: DatabaseProvider, plan: Plan) -> Document:
    left_out: list[dict[str, str]] = []
    cells = run(provider, plan, left_out=left_out)
    return make_document(plan, cells, describe(), left_out, 1.0)


def by_contender(document: Document, operation: str) -> dict[str, Result]:
    return {
        result["contender"]: result
        for result in document["results"]
        if result["operation"] == operation
    }


def test_another_one_begins_each_round() -> None:
    assert [order("ab", number) for number in range(3)] == [["a", "b"], ["b", "a"], ["a", "b"]]
    assert [order("abc", number)[0] for number in range(4)] == ["a", "b", "c", "a"]


def test_sides_alternate_and_the_warm_up_comes_first(sqlite_provider: SqliteProvider) -> None:
    steps: list[Step] = []
    plan = Plan(
        contenders=(STOCK, POOLED),
        rounds=3,
        iterations=1,
        threads=(1,),
        workloads=(WORKLOADS["connect"],),
    )
    [found] = run(sqlite_provider, plan, steps.append)
    assert [(step.round, step.contender) for step in steps] == [
        (0, "stock"),
        (0, "pooled"),
        (1, "pooled"),
        (1, "stock"),
        (2, "stock"),
        (2, "pooled"),
        (3, "pooled"),
        (3, "stock"),
    ]
    assert len(steps) == plan.trials("sqlite")
    assert [list(record.rounds) for record in found.records] == [[1, 2, 3], [1, 2, 3]]


def test_steady_workloads_share_their_turns_and_the_seconds(
    sqlite_provider: SqliteProvider,
) -> None:
    names = ("crud", "contention", "think")
    plan = Plan(contenders=(STOCK,), workloads=tuple(WORKLOADS[name] for name in names))
    together, think = plan.cells("sqlite")
    assert [each.name for each in together.workloads] == ["crud", "contention"]
    assert [together.seconds_of(each) for each in together.workloads] == [1.6, 0.4]
    assert (together.threads, together.pool_size, together.rounds) == (8, 4, 7)
    assert (think.threads, think.pool_size, think.seconds_of(WORKLOADS["think"])) == (50, 5, 4.0)
    plan = Plan(
        contenders=(STOCK, POOLED),
        workloads=(WORKLOADS["connect"], WORKLOADS["read"]),
        rounds=1,
        duration=0.1,
        threads=(2,),
    )
    found = measure(sqlite_provider, plan)["results"]
    assert [(each["workload"], each["contender"]) for each in found] == [
        (workload, name) for workload in ("connect", "read") for name in ("stock", "pooled")
    ]
    for each in found:
        assert each["elapsed_seconds"] >= 0.05, each
        assert each["cpu_ms"] > 0, each


@pytest.mark.slow
def test_every_contender_does_every_workload(provider: DatabaseProvider) -> None:
    workloads = tuple(each for each in WORKLOADS.values() if each.name != "think")
    plan = Plan(
        contenders=tuple(each for each in CONTENDERS.values() if not each.only),
        workloads=workloads,
        rounds=1,
        iterations=6,
        threads=(3,),
        pool_size=2,
        timeout=0.5,
    )
    document = measure(provider, plan)
    present = [each for each in CONTENDERS.values() if each.missing() is None]
    expected = {
        each.name
        for each in present
        if provider.vendor in each.vendors and each.most_threads is None and not each.only
    }
    assert {each["name"] for each in document["contenders"]} == expected
    assert {each["name"] for each in document["workloads"]} == {each.name for each in workloads}
    for result in document["results"]:
        where = (result["contender"], result["operation"], result["threads"], result["note"])
        assert result["rounds"] == 1, where
        if result["workload"] == "exhaustion":
            assert result["operations"] + result["errors"] == 1, where
            continue
        if result["contender"] != "psycopg2-threaded":  # it cannot wait, and says so
            assert (result["errors"], result["note"]) == (0, None), where
        assert result["operations"] > 0, where
        if result["contender"] in ("pooled", "native", "sqlalchemy", "asyncpg"):
            assert result["peak_connections"] <= 2, where
        assert sum(count for _, count in result["histogram"]) == result["operations"], where
        assert 0 <= result["wait_share"] <= 1, where
        assert result["ratio_low"] <= result["ratio"] <= result["ratio_high"], where
    assert leftovers(provider) == []
    assert not [name for name in connections.settings if name.startswith("poolbench")]


def test_a_contender_for_one_thread_takes_part_with_one(
    postgres_provider: PostgresProvider,
) -> None:
    single = CONTENDERS["psycopg2-simple"]
    connect = (WORKLOADS["connect"],)
    plan = Plan(
        contenders=(STOCK, single), workloads=connect, rounds=1, iterations=2, threads=(1, 2)
    )
    results = measure(postgres_provider, plan)["results"]
    assert [each["threads"] for each in results if each["contender"] == single.name] == [1]
    assert [each["operations"] for each in results] == [2, 2, 2]


def test_connections_are_counted_where_they_are_made(provider: DatabaseProvider) -> None:
    plan = Plan(
        contenders=(STOCK, PERSISTENT, POOLED),
        workloads=(WORKLOADS["crud"],),
        rounds=2,
        iterations=12,
        threads=(3,),
        pool_size=2,
    )
    found = by_contender(measure(provider, plan), "total")
    assert found["stock"]["operations"] == 2 * 12
    assert found["stock"]["connections_opened"] == 3 * 12  # with the warm-up
    assert found["persistent"]["connections_opened"] == 3
    assert 1 <= found["pooled"]["connections_opened"] <= 2
    assert found["stock"]["baseline"]
    assert found["stock"]["ratio"] == 1.0


def test_bad_contenders_are_reported_and_the_others_go_on(sqlite_provider: SqliteProvider) -> None:
    bad = [
        contender(adapter)
        for adapter in (
            misbehaving.Hanging,
            misbehaving.Raising,
            misbehaving.Refusing,
            misbehaving.Dying,
            misbehaving.Limping,
            misbehaving.Leaving,
            "Missing",
        )
    ]
    plan = Plan(
        contenders=(*bad, STOCK),
        workloads=(WORKLOADS["connect"],),
        rounds=2,
        iterations=4,
        threads=(1, 2),
        grace=1.2,
    )
    document = measure(sqlite_provider, plan)
    [missing] = document["left_out"]
    assert missing["contender"] == "missing"
    assert "has no attribute 'Missing'" in missing["reason"]
    results = [each for each in document["results"] if each["threads"] == 2]
    notes = {result["contender"]: result["note"] for result in results}
    assert notes == {
        "stock": None,
        "hanging": "stopped: no answer within 2 s",
        "raising": "8 x ConnectionError: out of luck",
        "refusing": "ValueError: no such pool",
        "dying": "its process has ended (7): something is rotten",
        "limping": notes["limping"],
        "leaving": "LoadError: SystemExit: bye",
    }
    assert "other kinds of errors" in (notes["limping"] or "")
    by_name = {result["contender"]: result for result in results}
    assert by_name["stock"]["operations"] == 8
    assert by_name["stock"]["baseline"]
    assert by_name["limping"]["errors"] > 0
    assert by_name["limping"]["ratio"] is not None
    assert {name: each["rank"] for name, each in by_name.items() if each["rank"]} == {"stock": 1}
    assert by_name["raising"]["errors"] == 8
    assert by_name["raising"]["ops_per_second"] is None
    assert by_name["hanging"]["operations"] == 0
    assert leftovers(sqlite_provider) == []


def test_ctrl_c_ends_the_run_and_leaves_nothing(
    provider: DatabaseProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []
    start = processes.WorkerProcess.start

    def noted(self: processes.WorkerProcess) -> None:
        start(self)
        assert self.pid is not None
        pids.append(self.pid)

    def interrupt(step: Step) -> None:
        if step.round == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(processes.WorkerProcess, "start", noted)
    plan = Plan(contenders=(STOCK, POOLED), rounds=1, iterations=8)
    plan = replace(plan, workloads=(WORKLOADS["connect"],))
    with pytest.raises(KeyboardInterrupt):
        run(provider, plan, interrupt)
    assert leftovers(provider) == []
    assert len(pids) == 2
    assert all(is_gone(pid) for pid in pids)
    assert not [name for name in connections.settings if name.startswith("poolbench")]


def test_what_was_measured_before_ctrl_c_is_kept(sqlite_provider: SqliteProvider) -> None:
    connect, read = WORKLOADS["connect"], WORKLOADS["read"]
    plan = Plan(
        contenders=(STOCK, POOLED),
        workloads=(connect, read),
        rounds=3,
        iterations=4,
        threads=(1, 2),
    )
    steps: list[Step] = []

    def note(step: Step) -> None:
        steps.append(step)
        if (step.threads, step.round) == (2, 2):
            raise KeyboardInterrupt

    document = runner.measure(plan, [nullcontext(sqlite_provider)], note)
    assert document["interrupted"] == "interrupted"
    assert {(each["threads"], each["rounds"]) for each in document["results"]} == {(1, 3), (2, 1)}
    assert "what was not measured: interrupted" in document["verdict"][-1]
    assert leftovers(sqlite_provider) == []


def test_a_database_that_is_not_to_be_had_does_not_stop_the_others(
    sqlite_provider: SqliteProvider,
) -> None:
    @contextmanager
    def absent() -> Iterator[DatabaseProvider]:
        raise SetupError("no such wheel; pip install it")
        yield

    plan = Plan(
        contenders=(STOCK,), workloads=(WORKLOADS["connect"],), rounds=1, iterations=1, threads=(1,)
    )
    found = runner.measure(plan, [absent(), nullcontext(sqlite_provider)])
    assert found["left_out"] == [{"contender": "all", "reason": "no such wheel; pip install it"}]
    assert [each["database"] for each in found["results"]] == ["SQLite"]
    with pytest.raises(SetupError, match="no such wheel"):
        runner.measure(plan, [absent()])


def test_exhaustion_tells_what_the_last_caller_got(sqlite_provider: SqliteProvider) -> None:
    plan = Plan(
        contenders=(STOCK, POOLED, contender(misbehaving.Stingy)),
        workloads=(WORKLOADS["exhaustion"],),
        pool_size=2,
        timeout=0.1,
    )
    found = by_contender(measure(sqlite_provider, plan), "exhaustion")
    stock, pooled, stingy = found["stock"], found["pooled"], found["stingy"]
    assert (stock["note"] or "").startswith("the last caller got a connection (after")
    assert "no connection within 0.1 s (max_size=2, leased=2" in (pooled["note"] or "")
    assert (pooled["p50_ms"] or 0) >= 100
    assert "waited until a connection was given back" in (stingy["note"] or "")
    assert [each["errors"] for each in (stock, pooled, stingy)] == [0, 1, 0]
    assert not any(each["baseline"] for each in found.values())


def test_a_spike_meets_a_pool_without_connections(sqlite_provider: SqliteProvider) -> None:
    plan = Plan(
        contenders=(STOCK, POOLED),
        workloads=(WORKLOADS["spike"],),
        rounds=3,
        threads=(4,),
        pool_size=2,
    )
    found = by_contender(measure(sqlite_provider, plan), "spike")
    assert found["stock"]["connections_opened"] == 4 * 4
    # A caller may be served before a second connection is needed.
    assert 4 <= found["pooled"]["connections_opened"] <= 2 * 4


def test_a_trial_may_be_ended_by_the_clock(sqlite_provider: SqliteProvider) -> None:
    plan = Plan(
        contenders=(STOCK, POOLED),
        workloads=(WORKLOADS["crud"], WORKLOADS["contention"]),
        rounds=1,
        threads=(3,),
        duration=0.1,
    )
    document = measure(sqlite_provider, plan)
    for result in document["results"]:
        assert result["operations"] > 0, result
        assert result["errors"] == 0, result


def test_the_pool_pays_at_the_simulated_database(simulated_provider: SimulatedProvider) -> None:
    plan = Plan(contenders=SIMULATED, **FAST, rounds=5, threads=(1,), simulated_unhealthy=0.2)
    found = by_contender(measure(simulated_provider, plan), "read")
    unpooled, pooled = found["simulated-unpooled"], found["simulated-pooled"]
    assert unpooled["operations"] == pooled["operations"] == 100
    assert unpooled["connections_opened"] == 100
    # Drawn at each test and not once for each connection: 99 tests with 20 % of failures.
    assert 5 < pooled["connections_opened"] < 45
    assert pooled["ratio_low"] is not None
    assert pooled["ratio_low"] > 1


def test_the_same_run_twice_gives_intervals_that_overlap(
    simulated_provider: SimulatedProvider,
) -> None:
    plan = Plan(
        contenders=SIMULATED,
        **FAST,
        workloads=(WORKLOADS["connect"],),
        rounds=5,
        iterations=8,
        threads=(1,),
        seed=5,
    )
    first, second = (
        by_contender(measure(simulated_provider, plan), "connect")["simulated-pooled"]
        for _ in range(2)
    )
    assert first["ratio_low"] <= second["ratio_high"]
    assert second["ratio_low"] <= first["ratio_high"]


@pytest.mark.parametrize(("sweep", "values"), [("iterations", [1, 2, 5, 7]), ("pool-size", [1, 2])])
def test_a_sweep_varies_one_thing(
    sqlite_provider: SqliteProvider, sweep: str, values: list[int]
) -> None:
    plan = Plan(
        contenders=(STOCK, POOLED),
        sweep=sweep,
        rounds=1,
        iterations=7,
        threads=(2,),
        pool_size=2,
    )
    document = measure(sqlite_provider, plan)
    pooled = [each for each in document["results"] if each["contender"] == "pooled"]
    assert [each["sweep"] for each in pooled] == [
        {"name": sweep, "value": value} for value in values
    ]
    stock = [each for each in document["results"] if each["contender"] == "stock"]
    assert len(stock) == (len(values) if sweep == "iterations" else 0)
