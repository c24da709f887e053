"""Contenders take turns fairly, failures are named, and nothing stays changed."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.db import connections

from pooling.bench.contenders import CONTENDERS, POOLED, STOCK
from pooling.bench.runner import ContenderError, Plan, Turn, order, run, take_turn
from pooling.bench.workloads import (
    CONNECT,
    CRUD,
    BenchUser,
    Client,
    Operation,
    Workload,
)
from tests.bench.conftest import leftovers

if TYPE_CHECKING:
    from pooling.bench.arenas import Arena, SqliteArena

SMALL = Plan(rounds=2, iterations=6, threads=(1, 3), pool_size=2)


def test_another_side_begins_each_round() -> None:
    assert [order("ab", number) for number in range(3)] == [["a", "b"], ["b", "a"], ["a", "b"]]
    assert [order("abc", number)[0] for number in range(4)] == ["a", "b", "c", "a"]


def test_sides_alternate_and_the_warm_up_comes_first(sqlite_arena: SqliteArena) -> None:
    turns: list[Turn] = []
    plan = Plan(rounds=3, iterations=1, threads=(1,), workloads=(CONNECT,))
    run(sqlite_arena, plan, turns.append)
    assert [(turn.round, turn.contender) for turn in turns] == [
        (0, "stock"),
        (0, "pooled"),
        (1, "pooled"),
        (1, "stock"),
        (2, "stock"),
        (2, "pooled"),
        (3, "pooled"),
        (3, "stock"),
    ]
    assert len(turns) == plan.turns


def test_measures_every_operation_of_every_side_without_the_warm_up(arena: Arena) -> None:
    result = run(arena, SMALL)
    found = [(each.threads, each.operation, each.contender) for each in result.measurements]
    operations = ["connect", "create", "read", "update", "delete", "total"]
    assert sorted(found) == sorted(
        (threads, operation, contender.name)
        for threads in SMALL.threads
        for operation in operations
        for contender in CONTENDERS
    )
    for each in result.measurements:
        assert len(each.seconds) == SMALL.rounds
        assert min(each.seconds) > 0
    assert leftovers(arena) == []


def test_the_pooled_side_stays_within_its_limit_and_the_stock_side_opens_one_each_time(
    arena: Arena,
) -> None:
    result = run(arena, Plan(rounds=1, iterations=24, threads=(8,), pool_size=3))
    stock, pooled = result.connections
    assert (stock.contender, stock.limit) == ("stock", None)
    assert stock.opened == 24 * len(["connect", "create", "read", "update", "delete"]) * 2
    assert (pooled.contender, pooled.limit) == ("pooled", 3)
    assert 1 <= pooled.opened <= 3
    assert 1 <= pooled.peak <= 3


def test_the_same_seed_gives_the_same_users() -> None:
    def names(seed: str) -> list[str]:
        return [user.username for user in Client("", 20, seed).users]

    assert names("1") == names("1")
    assert names("1") != names("2")
    assert len(set(names("1"))) == 20


def test_the_workload_does_what_it_says(sqlite_arena: SqliteArena) -> None:
    seen = {}

    def look(client: Client, number: int) -> None:
        users = BenchUser.objects.using(client.alias)
        seen[stage, number] = list(users.values_list("username", "logins"))

    with sqlite_arena.open_side(STOCK, pool_size=1) as side:
        client = Client(side.alias, 1, "seed")
        for stage in CRUD.operations:
            stage.run(client, 0)
            look(client, 0)
    name = client.users[0].username
    created, read, updated, deleted = seen.values()
    assert created == read == [(name, 0)]
    assert updated == [(name, 1)]
    assert deleted == []


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)
def test_every_operation_gives_its_connection_back(
    sqlite_arena: SqliteArena, contender: object, threads: int
) -> None:
    def look(client: Client, _number: int) -> None:
        assert connections[client.alias].connection is None
        connections[client.alias].ensure_connection()

    with sqlite_arena.open_side(contender, pool_size=1) as side:
        take_turn(side, Workload("look", (Operation("look", look),)), threads, 40, "seed")
        assert connections[side.alias].connection is None


@pytest.mark.parametrize("threads", [1, 4])
def test_a_failing_contender_is_named_and_the_others_stop(arena: Arena, threads: int) -> None:
    before = threading.active_count()

    def fail(client: Client, number: int) -> None:
        if number == 3:
            raise ValueError("no such thing")

    workload = Workload("hard", (Operation("fail", fail), Operation("never", fail)))
    plan = Plan(rounds=1, iterations=40, threads=(threads,), workloads=(workload,))
    with pytest.raises(ContenderError, match=r"stock failed at hard with \d thread.*no such thing"):
        run(arena, plan)
    assert threading.active_count() <= before + 1  # the pools' maintenance may have begun
    assert leftovers(arena) == []


@pytest.mark.parametrize("threads", [1, 4])
def test_ctrl_c_ends_the_run_and_leaves_nothing(arena: Arena, threads: int) -> None:
    def interrupt(turn: Turn) -> None:
        if turn.round == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(arena, Plan(rounds=1, iterations=8, threads=(threads,)), interrupt)
    assert leftovers(arena) == []
    assert not [name for name in connections.settings if name.startswith("poolbench")]


def test_ctrl_c_while_threads_work_ends_them(
    sqlite_arena: SqliteArena, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = threading.Event()
    done = []
    join = threading.Thread.join

    def work(client: Client, number: int) -> None:
        done.append(number)
        working.set()
        while not client.cancelled:  # each worker's first operation lasts until Ctrl-C
            threading.Event().wait(0.001)

    def interrupted(_thread: threading.Thread, _timeout: float | None = None) -> None:
        assert working.wait(10)
        monkeypatch.setattr(threading.Thread, "join", join)
        raise KeyboardInterrupt

    workload = Workload("endless", (Operation("work", work),))
    with sqlite_arena.open_side(POOLED, pool_size=2) as side:
        monkeypatch.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            take_turn(side, workload, 2, 40, "seed")
        assert not [each for each in threading.enumerate() if each.name.startswith("poolbench-")]
    assert set(done) == {0}


def test_debug_and_the_pools_log_are_off_meanwhile_and_restored(
    sqlite_arena: SqliteArena, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DEBUG", True)
    logger = logging.getLogger("pooling")
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    seen = []

    def look(_client: Client, _number: int) -> None:
        seen.append((settings.DEBUG, logger.level))
        raise ValueError

    workload = Workload("look", (Operation("look", look),))
    with pytest.raises(ContenderError):
        run(sqlite_arena, Plan(threads=(1,), workloads=(workload,)))
    assert seen == [(False, logging.WARNING)]
    assert (settings.DEBUG, logger.level) == (True, logging.DEBUG)
