"""Threads and tasks do the workloads as they are described."""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from pooling.bench.client import Client

from pooling.bench.adapters.base import RunConfig
from pooling.bench.adapters.drivers import libpq_parameters
from pooling.bench.adapters.orm import Persistent, Pooled, Stock
from pooling.bench.load import LoadError, ThreadLoad
from pooling.bench.measurements import Trial
from pooling.bench.statements import SqlStatements, parameters
from pooling.bench.users import KNOWN, BenchUser, Row, new_users
from pooling.bench.workloads import CONNECT, CRUD, MIXED, READ, Phase, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pooling.bench.databases import SqliteProvider


@pytest.fixture
def config(sqlite_provider: SqliteProvider) -> Iterator[RunConfig]:
    with sqlite_provider.new_database() as entry:
        sqlite_provider.prepare(entry)
        yield RunConfig(vendor="sqlite", entry=entry, pool_size=2, threads=3)


def turn(workload: Workload, iterations: int = 12, seconds: float | None = None) -> Trial:
    return Trial(workload=workload, iterations=iterations, seconds=seconds, seed="seed")


def test_the_same_seed_makes_up_the_same_users() -> None:
    def names(seed: str) -> list[str]:
        return [fields["username"] for fields in islice(new_users(seed), 20)]

    assert names("1") == names("1")
    assert names("1") != names("2")
    assert len(set(names("1"))) == 20


@pytest.mark.parametrize("workload", [CONNECT, READ, MIXED, CRUD], ids=lambda each: each.name)
def test_the_operations_are_shared_out_and_a_seed_chooses_them(workload: Workload) -> None:
    def actions(number: int) -> list[tuple[str, Any]]:
        client = Client(SqlStatements("?"), turn(workload, 60), number, 3)
        found = []
        for phase in workload.phases:
            for action, user in client.operations(phase):
                client.succeeded(action, user)
                found.append((action, getattr(user, "username", None)))
        return found

    assert len(actions(0)) == 20
    assert actions(0) == actions(0)
    assert (actions(0) != actions(1)) == (workload in (MIXED, CRUD))


def test_mixed_is_mostly_reading() -> None:
    client = Client(SqlStatements("?"), turn(MIXED, 1000), 0, 1)
    actions = [action for action, _ in client.operations(MIXED.phases[0])]
    assert 700 < actions.count("read") < 900
    assert actions.count("read") + actions.count("update") == 1000


def test_what_was_not_inserted_is_not_looked_for() -> None:
    client = Client(SqlStatements("?"), turn(CRUD, 40), 0, 1)
    for action, user in list(client.operations(CRUD.phases[0]))[:2]:
        client.succeeded(action, user)
    assert len(list(client.operations(CRUD.phases[1]))) == 10
    assert len(list(client.operations(CRUD.phases[3]))) == 2


def test_an_update_counts_the_logins_up() -> None:
    user = Row("ada", "Ada", "ada@example.com", is_active=True, logins=3, pk=7)
    assert parameters("update", user)[-2:] == (4, 7)
    assert parameters("delete", user) == (7,)
    assert parameters("trivial", None) == ()


def test_crud_does_what_it_says_and_leaves_the_known_users(config: RunConfig) -> None:
    adapter = Stock(config)
    load = ThreadLoad(adapter, 3)
    report = load.work(turn(CRUD, 24))
    assert [len(phase.latencies) for phase in report.phases.values()] == [6, 6, 6, 6]
    assert not any(phase.errors for phase in report.phases.values())
    assert BenchUser.objects.using(adapter.alias).count() == KNOWN
    connections[adapter.alias].close()
    load.close()
    adapter.close()
    assert adapter.count is not None
    assert (adapter.count.open, adapter.count.opened) == (0, 25)


@pytest.mark.parametrize(
    ("adapter_class", "open_between_turns"), [(Stock, [0]), (Persistent, [3]), (Pooled, [1, 2])]
)
def test_what_is_open_between_two_turns(
    config: RunConfig, adapter_class: type[Stock], open_between_turns: list[int]
) -> None:
    adapter = adapter_class(config)
    load = ThreadLoad(adapter, 3)
    assert adapter.count is not None
    for _ in range(2):
        load.work(turn(CONNECT, 60))
        assert adapter.count.open in open_between_turns
    load.close()
    adapter.close()
    assert adapter.count.open == 0
    assert not [name for name in connections.settings if name.startswith("poolbench")]


def test_a_thread_that_fails_lets_the_others_go(config: RunConfig) -> None:
    class Leaving(Stock):
        def acquire(self) -> Any:
            if threading.current_thread().name.endswith("0"):
                raise SystemExit("bye")
            return super().acquire()

    adapter = Leaving(config)
    load = ThreadLoad(adapter, 3)
    with pytest.raises(LoadError, match="SystemExit: bye"):
        load.work(turn(CRUD))
    load.close()
    adapter.close()


def test_a_turn_that_is_ended_by_the_clock_does_as_much_as_it_can(config: RunConfig) -> None:
    adapter = Stock(config)
    load = ThreadLoad(adapter, 2)
    report = load.work(
        turn(
            Workload(name="x", title="X", what="X.", phases=(Phase("x", "trivial"),)),
            iterations=1,
            seconds=0.05,
        )
    )
    assert len(report.phases["x"].latencies) > 2
    assert report.phases["x"].seconds >= 0.05
    load.close()
    adapter.close()


def test_libpq_is_not_told_what_only_django_understands() -> None:
    entry = {
        "NAME": "shop",
        "HOST": "",
        "PORT": "5433",
        "OPTIONS": {"pool": True, "isolation_level": 3, "sslmode": "require"},
    }
    assert libpq_parameters(entry) == {"dbname": "shop", "port": "5433", "sslmode": "require"}
