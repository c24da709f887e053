"""What the buttons do, what they ask back, and what they leave in the log."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import connections
from django.urls import reverse

from pooling import Pool, fleet, get_pool
from tests.admin.conftest import DO, PAGE, Staff, id_of, text
from tests.support.databases import PostgresDatabase, SqliteDatabase, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.test import Client


@pytest.fixture
def pool(reports: PostgresDatabase) -> Iterator[Pool[Any]]:
    wrapper = reports.wrapper(pool={"max_size": 5, "min_size": 1, "name": "reports"})
    wrapper.ensure_connection()
    wrapper.close()
    yield wrapper.resolve_pool()
    wrapper.resolve_pool().resume()


def do(client: Client, action: str, pool: str = "reports", **more: Any) -> Any:
    return client.post(reverse(DO), {"action": action, "pool": id_of(pool), **more}, follow=True)


def said(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


@pytest.mark.parametrize(
    ("action", "more"),
    [("drain", {}), ("suspend", {}), ("clear", {}), ("resize", {"min_size": "1", "max_size": "3"})],
)
def test_actions_that_affect_callers_are_confirmed(
    staff: Staff, pool: Pool[Any], action: str, more: dict[str, str]
) -> None:
    client = staff("view", "change")
    before = pool.stats()
    response = do(client, action, **more)
    assert response.templates[0].name == "pooling/confirm.html"
    assert pool.stats() == before
    assert not LogEntry.objects.exists()
    do(client, action, confirmed="yes", **more)
    [entry] = LogEntry.objects.all()
    assert (entry.object_repr, entry.action_flag) == ("reports", CHANGE)
    assert entry.user == client.user  # type: ignore[attr-defined]


def test_drain(staff: Staff, pool: Pool[Any]) -> None:
    response = do(staff("change"), "drain", confirmed="yes")
    assert said(response) == ["Pool “reports” is being drained in 1 process."]
    eventually(lambda: sum(pool.stats().discards.values()) == 1)
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Drain"]


def test_resize(staff: Staff, pool: Pool[Any]) -> None:
    client = staff("change")
    do(client, "resize", min_size="2", max_size="8")  # more hurts nobody
    assert (pool.config.min_size, pool.config.max_size) == (2, 8)
    do(client, "resize", min_size="0", max_size="1", confirmed="yes")
    assert (pool.config.min_size, pool.config.max_size) == (0, 1)
    messages = [entry.change_message for entry in LogEntry.objects.order_by("pk")]
    assert messages == ["Resize: min_size=2, max_size=8", "Resize: min_size=0, max_size=1"]


def test_suspend_and_resume(staff: Staff, pool: Pool[Any]) -> None:
    client = staff("view", "change")
    do(client, "suspend", confirmed="yes")
    assert pool.stats().suspended
    page = text(client)
    assert "Suspended: no connection is lent until the pool is resumed; no caller waits." in page
    assert "The server was not queried: the pool is suspended." in page
    response = do(client, "resume")
    assert not pool.stats().suspended
    assert said(response) == ["Pool “reports” is being resumed in 1 process."]


def test_one_process_can_be_drained(staff: Staff, pool: Pool[Any]) -> None:
    client = staff("view", "change")
    mine = fleet.snapshot()["id"]
    assert f'name="process" value="{mine}"' in text(client)
    asked = do(client, "drain", process=mine)
    assert f'name="process" value="{mine}"' in asked.content.decode()
    do(client, "drain", process=mine, confirmed="yes")
    eventually(lambda: sum(pool.stats().discards.values()) == 1)
    assert re.fullmatch(r"Drain in process .+:\d+", LogEntry.objects.get().change_message)
    for action, process in (("drain", "gone"), ("suspend", mine)):
        response = do(client, action, process=process, confirmed="yes")
        assert said(response) == ["There is no such process any more."]
    assert not pool.stats().suspended


def test_an_action_reaches_the_pools_of_one_database(
    staff: Staff, pool: Pool[Any], database_settings: Any
) -> None:
    """Another pool of this name, on another database, is left alone."""
    other = SqliteDatabase(database_settings("pooling.backends.sqlite3"))
    namesake = other.wrapper(pool={"name": "reports"}).resolve_pool()
    [mine] = [each["id"] for each in fleet.snapshot()["pools"] if each["vendor"] == "postgresql"]
    client = staff("view", "change")
    page = text(client)
    assert page.count('data-pool="reports"') == 2
    client.post(reverse(DO), {"action": "suspend", "pool": mine, "confirmed": "yes"})
    assert (pool.stats().suspended, namesake.stats().suspended) == (True, False)
    other.close()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"action": "explode"}, "There is no such action."),
        ({"action": "drain", "pool": "gone"}, "No process has this pool any more."),
        ({"action": "resize", "min_size": "1", "max_size": "x"}, "enter a whole number"),
        ({"action": "resize", "min_size": "9", "max_size": "2"}, "must not exceed"),
        ({"action": "resize", "min_size": "0", "max_size": "0"}, "at least 1"),
        ({"action": "resize", "min_size": "0", "max_size": "99999"}, "at most 10,000"),
        ({}, "There is no such action."),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    staff: Staff, pool: Pool[Any], data: dict[str, str], words: str
) -> None:
    before = pool.config
    response = staff("view", "change").post(
        reverse(DO), {"pool": id_of("reports"), "confirmed": "yes", **data}, follow=True
    )
    assert words in " ".join(said(response))
    assert pool.config == before
    assert not LogEntry.objects.exists()


def test_a_failing_cache_is_said_and_this_process_obeys(
    staff: Staff, pool: Pool[Any], settings: Any, tmp_path: Any
) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "tests.fleet.test_cache_store.BrokenCache",
            "LOCATION": str(tmp_path),
        }
    }
    client = staff("view", "change")
    response = do(client, "suspend", confirmed="yes")
    assert pool.stats().suspended
    assert "but in this process only: the cache failed: ConnectionError." in said(response)[0]
    assert "Other processes cannot be read at the moment" in response.content.decode()


def test_who_has_suspended_the_pool_of_the_page_can_resume_it(
    transactional_db: None, staff: Staff, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise the page would wait for the pool, and nobody could end that."""
    client = staff("view", "change")
    connections["default"].close()
    client.get(reverse(PAGE))
    pool = get_pool()
    timeouts = pool.stats().timeouts
    try:
        response = do(client, "suspend", "default", confirmed="yes")
        assert pool.stats().suspended
        page = response.content.decode()
        assert "cannot be queried at the moment" in page
        response = do(client, "resume", "default")
        assert not pool.stats().suspended
    finally:
        pool.resume()
    assert pool.stats().timeouts == timeouts
    eventually(lambda: LogEntry.objects.count() == 2)
    assert {entry.change_message for entry in LogEntry.objects.all()} == {"Suspend", "Resume"}
    assert "by user 'staff1'" in caplog.text
    connections["default"].close()
