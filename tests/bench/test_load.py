"""Threads and tasks do the workloads as they are described."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections

from pooling.bench.adapters.base import PoolAdapter, RunConfig
from pooling.bench.adapters.drivers import libpq_parameters
from pooling.bench.adapters.orm import Persistent, Pooled, Stock
from pooling.bench.load import AsyncLoad, Client, LoadError, ThreadLoad
from pooling.bench.measurements import Trial
from pooling.bench.statements import KNOWN, BenchUser, new_users, parameters
from pooling.bench.workloads import WORKLOADS, Phase, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pooling.bench.databases import SqliteProvider


CONNECT, CRUD, READ = (WORKLOADS[name] for name in ("connect", "crud", "read"))


@pytest.fixture
def config(sqlite_provider: SqliteProvider) -> Iterator[RunConfig]:
    with sqlite_provider.new_database() as entry:
        sqlite_provider.prepare(entry)
        yield RunConfig(vendor="sqlite", entry=entry, pool_size=2, threads=3)


def trial(workload: Workload, iterations: int = 12, seconds: float | None = None) -> Trial:
    return Trial(workload=workload, iterations=iterations, seconds=seconds, seed="seed")


def test_the_same_seed_makes_up_the_same_users() -> None:
    def names(seed: str) -> list[str]:
        return [user.username for user in islice(new_users(seed), 20)]

    assert names("1") == names("1")
    assert names("1") != names("2")
    assert len(set(names("1"))) == 20


@pytest.mark.parametrize("workload", [CONNECT, READ, CRUD], ids=lambda each: each.name)
def test_the_operations_are_shared_out_and_a_seed_chooses_them(workload: Workload) -> None:
    def actions(number: int) -> list[tuple[str, Any]]:
        client = Client(trial(workload, 60), number, 3)
        found = []
        for phase in workload.phases:
            for _due, action, user in client.operations(phase):
                client.succeeded(action, user)
                found.append((action, getattr(user, "username", None)))
        return found

    assert len(actions(0)) == 20
    assert actions(0) == actions(0)
    assert (actions(0) != actions(1)) == (workload is CRUD)


def test_what_was_not_inserted_is_not_looked_for() -> None:
    client = Client(trial(CRUD, 40), 0, 1)
    for _due, action, user in list(client.operations(CRUD.phases[0]))[:2]:
        client.succeeded(action, user)
    assert len(list(client.operations(CRUD.phases[1]))) == 10
    assert len(list(client.operations(CRUD.phases[3]))) == 2


def test_an_update_counts_the_logins_up() -> None:
    user = BenchUser(username="ada", logins=3, id=7)
    assert parameters("update", user)[-2:] == (4, 7)
    assert parameters("delete", user) == (7,)
    assert parameters("trivial", None) == ()


def test_crud_does_what_it_says_and_leaves_the_known_users(config: RunConfig) -> None:
    adapter = Stock(config)
    load = ThreadLoad(adapter, 3)
    report = load.run(trial(CRUD, 24))
    assert [len(phase.latencies) for phase in report.phases.values()] == [6, 6, 6, 6]
    assert not any(phase.errors for phase in report.phases.values())
    assert BenchUser.objects.using(adapter.alias).count() == KNOWN
    connections[adapter.alias].close()
    load.close()
    adapter.close()
    assert adapter.count is not None
    assert (adapter.count.open, adapter.count.opened) == (0, 25)


@pytest.mark.parametrize(
    ("adapter_class", "open_between_trials"), [(Stock, [0]), (Persistent, [3]), (Pooled, [1, 2])]
)
def test_what_is_open_between_two_trials(
    config: RunConfig, adapter_class: type[Stock], open_between_trials: list[int]
) -> None:
    adapter = adapter_class(config)
    load = ThreadLoad(adapter, 3)
    assert adapter.count is not None
    for _ in range(2):
        load.run(trial(CONNECT, 60))
        assert adapter.count.open in open_between_trials
    load.close()
    adapter.close()
    assert adapter.count.open == 0
    assert not [name for name in connections.settings if name.startswith("poolbench")]


def test_a_thread_that_fails_lets_the_others_go(config: RunConfig) -> None:
    class Leaving(Stock):
        def acquire(self) -> Any:
            if threading.current_thread().name.startswith("poolbench-0"):
                raise SystemExit("bye")
            return super().acquire()

    adapter = Leaving(config)
    load = ThreadLoad(adapter, 3)
    with pytest.raises(LoadError, match="SystemExit: bye"):
        load.run(trial(CRUD))
    load.close()
    adapter.close()


def test_a_trial_that_is_ended_by_the_clock_does_as_much_as_it_can(config: RunConfig) -> None:
    adapter = Stock(config)
    load = ThreadLoad(adapter, 2)
    report = load.run(
        trial(
            Workload(name="x", title="X", what="X.", phases=(Phase("x", "trivial"),)),
            iterations=1,
            seconds=0.05,
        )
    )
    assert len(report.phases["x"].latencies) > 2
    assert report.phases["x"].seconds >= 0.05
    load.close()
    adapter.close()


def test_a_rate_says_when_each_operation_is_due_and_clients_take_turns() -> None:
    given = Trial(workload=CONNECT, iterations=1, seconds=0.2, seed="x", rate=100)
    clients = [Client(given, number, 2) for number in range(2)]
    begin = time.perf_counter()
    due = [[each[0] for each in client.operations(CONNECT.phases[0])] for client in clients]
    assert [len(each) for each in due] == [10, 10]
    for number, moments in enumerate(due):
        offsets = [(moment or 0.0) - begin for moment in moments]
        steps = [round(later - former, 4) for former, later in pairwise(offsets)]
        assert steps == [0.02] * 9
        assert offsets[0] >= number * 0.01


def test_what_an_overloaded_contender_never_begins_is_an_error(config: RunConfig) -> None:
    class Slow(Stock):
        def acquire(self) -> Any:
            time.sleep(0.1)
            return super().acquire()

    adapter = Slow(config)
    load = ThreadLoad(adapter, 1)
    given = Trial(workload=CONNECT, iterations=1, seconds=0.2, seed="x", rate=100)
    report = load.run(given).phases["connect"]
    load.close()
    adapter.close()
    # 20 are due; at 10 a second and twice the time no more than 5 are done, later and later.
    assert len(report.latencies) + report.errors.total() == 20
    assert 1 <= len(report.latencies) <= 5
    assert list(report.errors) == ["overloaded: due, and never begun"]
    assert report.latencies == sorted(report.latencies)


class AsyncOne(PoolAdapter):
    """One connection for all tasks, which is nothing but a note of what is done with it."""

    is_async = True

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.free = asyncio.Semaphore(config.pool_size)
        self.done: list[str] = []

    async def perform(self, action: str, connection: Any, user: Any) -> None:
        self.done.append(action)
        await asyncio.sleep(0)

    async def acquire(self) -> Any:
        try:
            await asyncio.wait_for(self.free.acquire(), self.config.timeout)
        except TimeoutError:
            raise ConnectionError("none is free") from None

    async def release(self, connection: Any) -> None:
        self.free.release()

    async def aopen(self) -> None:
        self.done.append("open")

    async def aclose(self) -> None:
        self.done.append("close")


def test_tasks_run_the_same_loop_as_threads() -> None:
    adapter = AsyncOne(RunConfig(vendor="postgresql", entry={}, pool_size=1, timeout=5))
    load = AsyncLoad(adapter, 3)
    report = load.run(trial(CRUD, 24))
    load.close()
    assert [len(phase.latencies) for phase in report.phases.values()] == [6, 6, 6, 6]
    assert adapter.done[0] == "open"
    assert adapter.done[-1] == "close"
    assert [adapter.done.count(each) for each in ("insert", "delete")] == [6, 6]


def test_the_last_task_of_exhaustion_gets_an_error_and_the_connections_are_returned() -> None:
    adapter = AsyncOne(RunConfig(vendor="postgresql", entry={}, pool_size=2, timeout=0.01))
    load = AsyncLoad(adapter, 3)
    report = load.run(trial(WORKLOADS["exhaustion"]))
    load.close()
    assert report.note is not None
    assert report.note.startswith("the last caller got ConnectionError: none is free (after 0.0")
    assert "; after a release it was served in 0.0" in report.note
    assert not adapter.free.locked()


def test_libpq_is_not_told_what_only_django_understands() -> None:
    entry = {
        "NAME": "shop",
        "HOST": "",
        "PORT": "5433",
        "OPTIONS": {"pool": True, "isolation_level": 3, "sslmode": "require"},
    }
    assert libpq_parameters(entry) == {"dbname": "shop", "port": "5433", "sslmode": "require"}
