"""What the buttons do, what they ask back, and what they leave in the log."""

from __future__ import annotations

import html
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import OperationalError, connections
from django.urls import reverse

from pooling import Pool, fleet, get_pool
from pooling.fleet import server_sessions as fleet_sessions
from tests.admin.conftest import DO, PAGE, Staff, id_of, text
from tests.support.databases import PATIENCE, PostgresDatabase, SqliteDatabase, eventually

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


def asked(response: Any) -> str:
    """Return what the user is asked."""
    return html.unescape(response.text)


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
    before = pool.config, pool.stats().discards, pool.stats().suspended, pool.stats().connects
    response = do(client, action, **more)
    assert response.templates[0].name == "pooling/confirm.html"
    after = pool.config, pool.stats().discards, pool.stats().suspended, pool.stats().connects
    assert after == before
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


@pytest.fixture
def holder(reports: PostgresDatabase, pool: Pool[Any]) -> Iterator[dict[str, Any]]:
    """A lease of the pool in the middle of a transaction, as the page knows it."""
    wrapper = reports.wrapper(pool={"max_size": 5, "min_size": 1, "name": "reports"})
    with wrapper.cursor() as cursor:
        cursor.execute("BEGIN")
    [process] = fleet.processes()
    [seen] = [each for each in process["pools"] if each["name"] == "reports"]
    [lease] = seen["holders"]
    yield {"process": process["id"], "lease": lease["id"], "wrapper": wrapper}
    wrapper.close()


def test_cancel_a_query(staff: Staff, pool: Pool[Any], holder: dict[str, Any]) -> None:
    wrapper = holder.pop("wrapper")
    wrapper.inc_thread_sharing()
    client = staff("change")
    question = asked(do(client, "cancel", **holder))
    assert "asked to cancel the query that runs in it now" in question

    def sleep() -> str:
        with pytest.raises(OperationalError) as caught, wrapper.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(60)")
        return str(caught.value)

    with ThreadPoolExecutor(1) as executor:
        sleeping = executor.submit(sleep)
        eventually(lambda: "active" in states(pool))
        answer = do(client, "cancel", confirmed="yes", **holder)
        assert said(answer) == ["Pool “reports” is asked to cancel a query in 1 process."]
        assert "canceling statement due to user request" in sleeping.result(PATIENCE)
    wrapper.dec_thread_sharing()
    wrapper.close()
    eventually(lambda: sum(pool.stats().discards.values()) == 1)
    assert LogEntry.objects.get().change_message.startswith("Cancel query in process ")
    assert said(do(client, "cancel", confirmed="yes", **holder)) == ["That lease has ended."]


def states(pool: Pool[Any]) -> str:
    sessions = fleet_sessions.read_outside(pool)["sessions"]
    return " ".join(session["state"] for session in sessions)


def test_end_a_session(
    staff: Staff, reports: PostgresDatabase, pool: Pool[Any], holder: dict[str, Any]
) -> None:
    wrapper = holder.pop("wrapper")
    client = staff("change")
    assert "locks are freed" in asked(do(client, "terminate", **holder))
    do(client, "terminate", confirmed="yes", **holder)
    eventually(lambda: "transaction" not in states(pool))
    with pytest.raises(OperationalError), wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
    wrapper.close()
    eventually(lambda: pool.stats().discards["broken"] == 1)
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_resize(staff: Staff, pool: Pool[Any]) -> None:
    client = staff("change")
    question = asked(do(client, "resize", min_size="2", max_size="8"))
    assert "1 to 5" in question
    assert "2 to 8" in question
    assert "Together they may open 8 connections; the server has room for them." in question
    assert '"OPTIONS": {"pool": {"min_size": 2, "max_size": 8, ...}}' in question
    too_many = asked(do(client, "resize", min_size="2", max_size="5000"))
    assert re.search(r"may open 5,000 connections; the server has room for \d+ only", too_many)
    do(client, "resize", min_size="2", max_size="8", confirmed="yes")
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
        assert "does not answer you" in page
        response = do(client, "resume", "default")
        assert not pool.stats().suspended
    finally:
        pool.resume()
    assert pool.stats().timeouts == timeouts
    eventually(lambda: LogEntry.objects.count() == 2)
    assert {entry.change_message for entry in LogEntry.objects.all()} == {"Suspend", "Resume"}
    assert "by user 'staff1'" in caplog.text
    connections["default"].close()
