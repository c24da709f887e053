"""What a snapshot holds, and what it never does."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from pooling import Pool, PoolConfig
from pooling.core.histogram import HistogramSnapshot
from pooling.fleet.aggregate import aggregate, pool_state
from pooling.fleet.history import COLUMNS, RECENT_SLOTS, SLOT_SECONDS, History
from pooling.fleet.publisher import HeldTimes, Observed, Publisher
from pooling.fleet.snapshots import (
    MAX_HOLDERS,
    MAX_STACKS,
    command_name,
    identity_of,
    snapshot,
)
from tests.benchmarks.micro.probes.stubs import StubDriver
from tests.metrics.samples import holder, measured, pool, process
from tests.support.databases import PostgresDatabase, SqliteDatabase, eventually

if TYPE_CHECKING:
    from pooling import PoolStats

SECRET = "geheimes-passwort-7"


def own(pool: Pool[Any], **changes: Any) -> dict[str, Any]:
    [entry] = [each for each in snapshot()["pools"] if each["name"] == pool.name]
    return entry


@pytest.fixture
def sqlite(database_settings: Any) -> Any:
    database = SqliteDatabase(database_settings("pooling.backends.sqlite3"))
    yield database
    database.close()


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/srv/venv/bin/gunicorn", "--env", "PASSWORD=x"], "gunicorn"),
        (["manage.py", "runserver", "--secret"], "manage.py runserver"),
        (["/bin/django-admin", "--settings=x"], "django-admin"),
        (["/lib/celery/__main__.py", "worker"], "celery"),
        (["-c"], "python"),
        ([], "python"),
    ],
)
def test_a_command_is_named_without_its_arguments(argv: list[str], name: str) -> None:
    assert command_name(argv) == name


def test_a_snapshot_is_plain_data_that_tells_everything(sqlite: SqliteDatabase) -> None:
    wrapper = sqlite.wrapper(pool={"max_size": 3, "name": "told", "leak_after": 60.0})
    wrapper.ensure_connection()
    pool = wrapper.resolve_pool()
    entry = json.loads(json.dumps(own(pool)))
    stats = pool.stats()
    assert set(entry["stats"]) == {field.name for field in dataclasses.fields(stats)}
    assert entry["options"] == dataclasses.asdict(pool.config)
    assert entry["vendor"] == "sqlite"
    assert entry["aliases"] == [wrapper.alias]
    assert (entry["stats"]["size"], entry["stats"]["leased"]) == (1, 1)
    [holder] = entry["holders"]
    assert holder["thread"] == "MainThread"
    assert "test_a_snapshot_is_plain_data" in holder["stack"]
    wrapper.close()
    assert own(pool)["holders"] == []
    assert own(pool)["stats"]["holds"]["count"] == 1


def test_a_snapshot_of_a_crowd_stays_small(sqlite: SqliteDatabase) -> None:
    pool = sqlite.wrapper(pool={"max_size": 120, "name": "crowd", "leak_after": 60}).resolve_pool()
    leases = [pool.acquire() for _ in range(120)]
    entry = own(pool)
    assert len(entry["holders"]) == MAX_HOLDERS
    assert entry["more_holders"] == 120 - MAX_HOLDERS
    assert sum(holder["stack"] is not None for holder in entry["holders"]) == MAX_STACKS
    for lease in leases:
        pool.release(lease)


def test_no_secret_of_the_settings_is_in_a_snapshot(
    database_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = database_settings(
        "pooling.backends.postgresql", HOST="127.0.0.1", PORT="1", NAME="nowhere"
    )
    entry["PASSWORD"] = SECRET
    entry["OPTIONS"]["sslpassword"] = SECRET + "-ssl"
    database = PostgresDatabase(entry, "")
    wrapper = database.wrapper(pool={"timeout": 5.0, "name": "secretive"})

    def connect(self: Any) -> Any:
        raise ValueError(f"invalid dsn: password={SECRET} sslpassword={SECRET}-ssl")

    monkeypatch.setattr("pooling.backends.driver.DatabaseDriver.connect", connect)
    with pytest.raises(Exception, match="invalid dsn"):
        wrapper.ensure_connection()
    pool = wrapper.resolve_pool()
    seen = own(pool)
    assert seen["stats"]["last_error"] == "invalid dsn: password=******** sslpassword=********"
    assert SECRET not in json.dumps(snapshot())
    assert entry["USER"] == seen["user"]
    pool.close()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("postgresql://u:geheim@host/db", "(a connection string)"),
        ("dbname=x password=geheim", "(a connection string)"),
        ("file:/srv/db.sqlite3?key=geheim", "file:/srv/db.sqlite3"),
        ("shop", "shop"),
    ],
)
def test_a_name_that_is_a_connection_string_is_not_shown(name: str, shown: str) -> None:
    from pooling.fleet.snapshots import _database

    assert _database({"NAME": name}) == shown


def stats(**changes: Any) -> PoolStats:
    """Return the statistics of a pool that was never used, with changes."""

    class NoDriver:
        operational_error = Exception

    pool: Pool[Any] = Pool(NoDriver(), PoolConfig(name="unused"))  # type: ignore[arg-type]
    return dataclasses.replace(pool.stats(), **changes)


def counted(*buckets: int) -> HistogramSnapshot:
    return HistogramSnapshot(sum(buckets), 1.0, (*buckets, *[0] * (80 - len(buckets))))


def column(history: History, name: str) -> list[Any]:
    return [row[1 + COLUMNS.index(name)] for row in history.rows()]


def test_a_history_keeps_the_highest_and_counts_what_happened() -> None:
    history = History()
    begin = 1000.0 * SLOT_SECONDS
    history.sample(stats(acquired=10), (1, 0), begin)
    history.sample(stats(acquired=15), (4, 2), begin + 2)
    history.sample(stats(acquired=17, timeouts=3, rejected=1), (2, 1), begin + 4)
    waits = counted(0, 3)
    last = stats(acquired=20, timeouts=3, rejected=1, connect_errors=2, waits=waits)
    history.sample(last, (0, 0), begin + SLOT_SECONDS)
    assert [row[0] for row in history.rows()] == [1000, 1001]
    assert column(history, "leased") == [4, 0]
    assert column(history, "waiting") == [2, 0]
    assert column(history, "acquired") == [17, 3]
    assert column(history, "timeouts") == [3, 0]
    assert column(history, "rejected") == [1, 0]
    assert column(history, "connect_errors") == [0, 2]
    assert column(history, "waits") == [{}, {"1": 3}]


def test_a_history_has_gaps_and_an_end() -> None:
    history = History()
    history.sample(stats(), (0, 0), 0.0)
    history.sample(stats(), (0, 0), 3.0 * SLOT_SECONDS)
    assert [row[0] for row in history.rows()] == [0, 3]
    for slot in range(4, 2 * RECENT_SLOTS):
        history.sample(stats(), (0, 0), float(slot * SLOT_SECONDS))
    assert len(history.rows()) == RECENT_SLOTS


def test_cleared_statistics_and_a_clock_set_back_do_no_harm() -> None:
    history = History()
    history.sample(stats(acquired=10), (0, 0), 5.0 * SLOT_SECONDS)
    history.sample(stats(acquired=0), (0, 0), 6.0 * SLOT_SECONDS)
    history.sample(stats(acquired=4), (0, 0), 6.0 * SLOT_SECONDS + 1)
    assert column(history, "acquired") == [10, 4]
    history.sample(stats(acquired=5), (0, 0), 1.0 * SLOT_SECONDS)
    assert [row[0] for row in history.rows()] == [1]


def test_the_sum_of_processes_adds_up() -> None:
    def one(pid: int, **numbers: Any) -> dict[str, Any]:
        about = pool(
            leased=pid, max_size=10, last_error="no", last_error_age=float(pid),
            waits=measured(*[0.001] * pid), discards={"idle": pid}, **numbers,
        )  # fmt: skip
        about["options"] = {"max_size": 10 * pid}
        about["holders"] = [holder(None, float(pid))]
        return process(about, pid=pid, host="h")

    [total] = aggregate([one(1, suspended=True), one(2)])
    assert total["stats"]["leased"] == 3
    assert total["stats"]["max_size"] == 20
    assert total["stats"]["waits"]["count"] == 3
    assert total["stats"]["discards"] == {"idle": 3}
    assert (total["stats"]["last_error"], total["stats"]["last_error_age"]) == ("no", 1.0)
    assert (total["suspended_in"], total["stats"]["suspended"]) == (1, False)
    assert total["differing"] == ["max_size"]
    assert [each["process"] for each in total["holders"]] == ["h:2", "h:1"]


def test_a_lease_is_as_old_as_its_process_said() -> None:
    """Most have ended since: with the age of the snapshot, a short query would look long."""
    leased = {**pool(waiting=1, max_wait=0.5), "holders": [holder(None, 0.04)]}
    [total] = aggregate([{**process(leased), "age": 1.6}])
    assert [each["seconds"] for each in total["holders"]] == [0.04]
    assert total["stats"]["max_wait"] == 0.5


def test_pools_of_different_databases_are_not_added_up() -> None:
    other = {**pool(), "id": "another", "database": "elsewhere"}
    found = aggregate([process(pool(), pid=1), process(other, pid=2), process(pool(), pid=3)])
    assert [(each["database"], len(each["parts"])) for each in found] == [
        ("elsewhere", 1),
        ("shop", 2),
    ]


def test_the_identity_of_a_pool_names_its_database(database_settings: Any) -> None:
    ids = set()
    for change in ({}, {"NAME": "b"}, {"HOST": "h"}, {"PORT": "1"}, {"USER": "u"}):
        entry = database_settings("pooling.backends.postgresql", **change)
        database = PostgresDatabase(entry, "")
        found = identity_of(database.wrapper(pool={"name": "same"}).resolve_pool())
        again = identity_of(database.wrapper(pool={"name": "same"}).resolve_pool())
        assert found == again
        ids.add(found["id"])
    assert len(ids) == 5


def test_a_silent_process_is_not_part_of_now() -> None:
    silent = {**process(pool(leased=7), pid=2), "silent": True, "age": 20.0}
    [total] = aggregate([process(pool(leased=1), pid=1), silent])
    assert total["stats"]["leased"] == 1
    assert len(total["parts"]) == 2
    assert pool_state(silent, silent["pools"][0]["stats"]) == "silent"


def test_the_numbers_equal_the_server_s(database_settings: Any, postgresql_url: str) -> None:
    from tests.support.servers import execute

    entry = database_settings("pooling.backends.postgresql")
    database = PostgresDatabase(entry, postgresql_url)
    wrappers = [database.wrapper(pool={"max_size": 5, "name": "true"}) for _ in range(3)]
    for wrapper in wrappers:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
    wrappers[0].set_autocommit(False)
    with wrappers[0].cursor() as cursor:
        cursor.execute("SELECT 1")
    wrappers[1].close()
    wrappers[2].close()
    pool = wrappers[0].resolve_pool()

    def server_says() -> dict[str, int]:
        return dict(
            execute(
                postgresql_url,
                "SELECT state, count(*) FROM pg_stat_activity "
                f"WHERE datname = '{entry['NAME']}' GROUP BY 1",
            )
        )

    eventually(lambda: server_says() == {"idle in transaction": 1, "idle": 2})
    seen = own(pool)["stats"]
    assert (seen["leased"], seen["idle"], seen["size"]) == (1, 2, 3)
    wrappers[0].rollback()
    wrappers[0].close()
    pool.close()


def test_samples_are_not_read_while_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler's thread takes them, and any thread may ask for a snapshot."""
    publisher, pool = Publisher(), Pool(StubDriver())
    is_locked: list[bool] = []

    def noting(answer: Any) -> Any:
        is_locked.append(publisher._lock.locked())
        return answer

    monkeypatch.setattr(History, "rows", lambda _: noting([[1]]))
    monkeypatch.setattr(HeldTimes, "seconds", lambda _: noting({"GET /": 1.0}))
    assert publisher.recent(pool) == ([], {})
    publisher._observed[pool] = Observed()
    assert publisher.recent(pool) == ([[1]], {"GET /": 1.0})
    assert is_locked == [True, True]
