"""What the page says, and that it always comes."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from django.urls import reverse

from pooling import get_pool
from pooling.admin import charts, context, formatting
from pooling.fleet.aggregate import aggregate
from pooling.fleet.publisher import HeldTimes
from pooling.fleet.server_sessions import ServerSessions
from pooling.formatting import NOTHING, duration
from tests.admin.conftest import LIVE, PAGE, Staff, text
from tests.metrics.samples import holder, pool, process
from tests.support.databases import PostgresDatabase, eventually

if TYPE_CHECKING:
    from django.test import Client

    from tests.support.mariadb import MariaDatabase

SECRET = "geheimes-passwort-11"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers are asked anew for every page, and waited for."""
    monkeypatch.setattr("pooling.fleet.server_sessions.REFRESH_AFTER", 0.0)
    monkeypatch.setattr("pooling.fleet.server_sessions.ANSWER_TIMEOUT", 20.0)
    monkeypatch.setattr("pooling.admin.context.SERVER_SESSIONS", ServerSessions())


def section(page: str, name: str) -> str:
    """Return the part of the page about one pool."""
    sections = re.findall(r'<section class="pool".*?</section>', page, re.DOTALL)
    [found] = [each for each in sections if f'data-pool="{name}"' in each]
    return re.sub(r"\s+", " ", found)


def test_the_page_tells_of_each_pool(
    staff: Staff, reports: PostgresDatabase, patient: None
) -> None:
    wrapper = reports.wrapper(pool={"max_size": 3, "name": "reports", "leak_after": 60.0})
    idle = reports.wrapper(pool={"max_size": 3, "name": "reports", "leak_after": 60.0})
    wrapper.ensure_connection()
    idle.ensure_connection()
    idle.close()
    part = section(text(staff("view")), "reports")
    assert "1 of 3 connections in use, no caller waits." in part
    assert 'aria-label="1 leased, 0 connecting, 1 idle, 1 free, at most 3"' in part
    assert "MainThread" in part
    assert "test_the_page_tells_of_each_pool" in part  # the stack
    assert "History as a table" in part
    assert re.search(r"PostgreSQL [\d.]+: \d+ of \d+ connections, of which \d+ are reserved", part)
    assert "pooling " in part
    assert "this one" in part
    assert "<code>max_idle</code>" in part
    wrapper.close()


def test_the_page_shows_mariadb_s_sessions(
    staff: Staff, mariadb: MariaDatabase, patient: None
) -> None:
    wrapper = mariadb.wrapper(pool={"name": "shop"})
    wrapper.ensure_connection()
    wrapper.close()
    part = section(text(staff("view")), "shop")
    assert f"MySQL, {mariadb.entry['NAME']} on 127.0.0.1:" in part
    assert re.search(r"MariaDB [\d.]+: \d+ of \d+ connections: \d+ are left", part)
    assert f"{mariadb.entry['USER']}@127.0.0.1" in part


def test_the_page_says_that_it_sees_one_process(staff: Staff) -> None:
    page = text(staff("view"))
    assert "This page shows one process" in page
    assert "LocMemCache" in page


def test_the_page_needs_no_script_and_no_inline_style(staff: Staff) -> None:
    client = staff("view", "change")
    page = text(client)
    assert "?refresh=5" in page
    assert '<meta http-equiv="refresh"' not in page
    assert '<meta http-equiv="refresh" content="5">' in text(client, refresh="5")
    assert '<meta http-equiv="refresh"' not in text(client, refresh="x")
    live = client.get(reverse(LIVE)).content.decode()
    for found in (page, live):
        inner = found[found.index('class="pools-scope"') :]
        assert " style=" not in inner
        assert not re.search(r"<script(?![^>]*src=)", inner)
        assert not re.search(r"\son\w+=", inner)


def test_the_page_does_not_show_itself(
    live_server: Any, transactional_db: None, staff: Staff
) -> None:
    import urllib.request

    client = staff("view")
    cookie = f"sessionid={client.cookies['sessionid'].value}"
    request = urllib.request.Request(live_server.url + reverse(PAGE), headers={"Cookie": cookie})
    connections["default"].close()
    with urllib.request.urlopen(request, timeout=60) as response:
        part = section(response.read().decode(), "default")
    assert 'data-key="none">None.' in part


def test_an_exhausted_pool_is_said_so_and_the_page_comes(
    staff: Staff, reports: PostgresDatabase, patient: None
) -> None:
    wrapper = reports.wrapper(pool={"max_size": 1, "name": "reports"})
    wrapper.ensure_connection()
    page = text(staff("view"))
    part = section(page, "reports")
    assert "All connections are in use, but no caller waits." in part
    # Asked outside the pool, once: its own connection is in use.
    assert re.search(r"PostgreSQL [\d.]+: \d+ of \d+ connections", part)
    assert "1 of 1 held, 1 of them idle on the server: held by Python, not by SQL" in part
    again = section(text(staff("view")), "reports")
    assert "no newer answer: every connection of this process is in use" in again
    assert "reports: All connections are in use" in page
    assert wrapper.resolve_pool().stats().timeouts == 0
    wrapper.close()


def test_a_stopped_server_is_said_so_and_the_page_comes(
    staff: Staff, private_postgres: Any, patient: None
) -> None:
    from tests.fleet.test_server_sessions import complete
    from tests.support.servers import settings_from_url

    entry = complete(settings_from_url(private_postgres.url, "pooling.backends.postgresql"))
    database = PostgresDatabase(entry, private_postgres.url)
    wrapper = database.wrapper(pool={"name": "stopped"})
    wrapper.ensure_connection()
    wrapper.close()
    client = staff("view")
    private_postgres.stop()
    part = eventually(lambda: _error_of(client))
    assert "The server was not queried" in part
    assert "Server unreachable since" in part
    assert entry["PASSWORD"] not in part
    private_postgres.start()
    wrapper.ensure_connection()
    part = section(text(client), "stopped")
    assert '<p class="last-error recovered"' in part
    assert "recovered since:" in part
    assert "1 of 10 connections in use" in part
    wrapper.close()
    wrapper.resolve_pool().close()
    database.close()


def _error_of(client: Client) -> str | None:
    part = section(text(client), "stopped")
    return part if "Last connect error, " in part else None


def test_no_secret_is_on_the_page(
    staff: Staff, database_settings: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = database_settings("pooling.backends.postgresql", HOST="127.0.0.1", PORT="1", NAME="x")
    entry["PASSWORD"] = SECRET
    settings.SECRET_KEY = SECRET + "-key"
    database = PostgresDatabase(entry, "")
    wrapper = database.wrapper(pool={"timeout": 5.0, "name": "secretive"})

    def connect(self: Any) -> Any:
        raise ValueError(f"cannot parse host=h password={SECRET}")

    monkeypatch.setattr("pooling.backends.driver.DatabaseDriver.connect", connect)
    with pytest.raises(Exception, match="cannot parse"):
        wrapper.ensure_connection()
    client = staff("view", "change")
    page = text(client)
    assert "cannot parse host=h password=********" in page
    assert SECRET not in page + client.get(reverse(LIVE)).content.decode()
    wrapper.resolve_pool().close()


def test_names_are_escaped(staff: Staff, reports: PostgresDatabase) -> None:
    wrapper = reports.wrapper(pool={"name": "<b>x</b>"})
    lease = wrapper.resolve_pool().acquire(note="<script>alert(1)</script>")
    page = text(staff("view", "change"))
    assert "<b>x</b>" not in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    lease._pool.release(lease)


# ---- when the user database is unavailable -----------------------------------------------------


@pytest.fixture
def on_server(transactional_db: None, staff: Staff) -> Any:
    """A function that asks a real server, whose threads lease connections of their own."""
    client = staff("view", "change")
    connections["default"].close()
    return client


def test_the_page_comes_while_its_own_pool_is_exhausted(on_server: Client) -> None:
    text(on_server)
    pool = get_pool()
    leases = [pool.acquire() for _ in range(pool.config.max_size)]
    try:
        page = text(on_server)
        assert "The user database does not answer you" in page
        assert "All connections are in use" in section(page, "default")
        assert pool.stats().timeouts == 0
    finally:
        for lease in leases:
            pool.release(lease)
    assert "does not answer you" not in text(on_server)


def test_without_an_access_cookie_it_fails_soon(
    on_server: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pooling.admin.access.ACQUIRE_TIMEOUT", 0.05)
    pool = get_pool()
    leases = [pool.acquire() for _ in range(pool.config.max_size)]
    try:
        response = on_server.get(reverse(PAGE))
        assert response.status_code == 503
        assert "does not answer" in response.content.decode()
        assert "leased" not in response.content.decode()
    finally:
        for lease in leases:
            pool.release(lease)


# ---- formatting and charts ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, NOTHING),
        (0.000012, "12 µs"),
        (0.0012, "1.2 ms"),
        (0.25, "250 ms"),
        (3.21, "3.2 s"),
        (42.0, "42 s"),
        (250.0, "4 min 10 s"),
        (539.8, "9 min"),
        (0.0, "0 s"),
        (0.9996, "1.0 s"),
        (7500.0, "2 h 5 min"),
        (200000.0, "2 d 8 h"),
    ],
)
def test_durations_have_a_unit_that_fits(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def pool_entry(silent: bool = False, **numbers: Any) -> dict[str, Any]:
    full = {"max_size": 4, "size": 0, "idle": 0, "leased": 0, **numbers}
    lone = process(pool(**full))
    many = [lone, {**process(pool(), pid=2), "silent": True}] if silent else [lone]
    [found] = aggregate(many)
    return found


USED_UP = {"limit": 60, "used": 60, "processes": 12, "wanting": 1}
OUTAGE = {"seconds": 32.0, "refused": 4043, "next_attempt": 0.3, "answered": False}


@pytest.mark.parametrize(
    ("numbers", "level", "start"),
    [
        ({}, "good", "0 of 4 connections in use"),
        ({"leased": 4, "size": 4}, "busy", "All connections are in use, but no caller waits"),
        (
            {"leased": 4, "size": 4, "waiting": 1, "max_wait": 2.5},
            "bad",
            "Exhausted: all connections are in use and 1 caller waits, the first for 2.5 s.",
        ),
        ({"waiting": 2, "leased": 1, "size": 1}, "busy", "2 callers wait for a connection"),
        (
            {"waiting": 2, "leased": 1, "size": 1, "max_wait": 1.5, "budget": USED_UP},
            "bad",
            "Exhausted: budget 60 of 60 used by 12 processes, and 2 callers wait, the first for",
        ),
        ({"suspended": 1, "waiting": 3}, "bad", "Suspended: no connection is lent"),
        ({"outage": OUTAGE, "idle": 2, "size": 2}, "bad", "Server unreachable since "),
        ({"outage": {**OUTAGE, "answered": True}}, "bad", "The server refuses connections since "),
        ({"silent": True}, "busy", "1 process not heard of lately."),
    ],
)
def test_health_is_a_sentence(numbers: dict[str, Any], level: str, start: str) -> None:
    found = formatting.health(pool_entry(**numbers))
    assert found[0] == level
    assert found[1].startswith(start)


def test_an_outage_is_told_with_its_numbers() -> None:
    found = formatting.health(pool_entry(outage=OUTAGE))[1]
    assert "for 32 s: 4,043 callers refused since then. Next attempt in 300 ms." in found
    later = formatting.health(pool_entry(outage={**OUTAGE, "next_attempt": None}))[1]
    assert "Next attempt with the next caller." in later


def test_what_is_idle_in_an_outage_was_not_tested() -> None:
    stats = {"leased": 0, "connecting": 0, "idle": 2, "size": 2, "max_size": 2}
    assert "2 idle, not tested" in charts.bar(stats, down=True)["text"]


def test_a_bar_has_as_many_places_as_the_pool() -> None:
    bar = charts.bar({"leased": 2, "connecting": 1, "idle": 1, "size": 4, "max_size": 5})
    assert sum(part["width"] for part in bar["segments"]) == charts.WIDTH
    assert len(bar["lines"]) == 4
    assert charts.bar({"leased": 7, "connecting": 0, "idle": 0, "size": 7, "max_size": 5})[
        "segments"
    ] == [{"kind": "leased", "x": 0.0, "width": 1000.0}]


# ---- the queue, the holders and the diagnosis ---------------------------------------------------


def answer(*sessions: tuple[str, str, int], age: float = 1.0) -> dict[str, Any]:
    names = ("application_name", "state", "count")
    rows = [{**dict(zip(names, each, strict=True)), "own_database": True} for each in sessions]
    return {"sessions": rows, "age": age, "problem": None}


WEB = "pooling web1:1"
FULL = {"leased": 4, "size": 4, "idle": 0, "waiting": 3}


def test_old_leases_are_counted_beside_the_longest_one() -> None:
    pool = pool_entry()
    pool["holders"] = [
        {**holder("GET /leak/", seconds), "process": "web1:1"} for seconds in (17.0, 12.0, 0.1)
    ]
    found = formatting.longest_lease(pool)
    assert found is not None
    assert found.startswith("Longest lease: 17 s for GET /leak/, ")
    assert found.endswith(" 2 leases are older than 10 s.")
    pool["holders"] = pool["holders"][1:]
    assert "older" not in (formatting.longest_lease(pool) or "older")


@pytest.mark.parametrize(
    ("numbers", "sessions", "words"),
    [
        (FULL, [(WEB, "idle", 3), (WEB, "active", 1)], "4 of 4 held, 3 of them idle on the server"),
        (FULL, [(WEB, "idle in transaction", 4)], "held by Python, not by SQL"),
        (FULL, [(WEB, "active", 3), (WEB, "idle", 1)], "4 of 4 held, 3 of them running SQL"),
        ({**FULL, "leased": 5}, [(WEB, "idle", 3)], None),
        ({**FULL, "leased": 1}, [(WEB, "idle", 1)], None),
        (FULL, [("psql", "idle", 4)], None),
        ({**FULL, "outage": OUTAGE}, [(WEB, "idle", 4)], None),
    ],
)
def test_a_diagnosis_is_given_where_the_numbers_tell(
    numbers: dict[str, Any], sessions: list[tuple[str, str, int]], words: str | None
) -> None:
    found = formatting.diagnosis(pool_entry(**numbers), [answer(*sessions)])
    assert (words is None) == (found == [])
    if words is not None:
        assert words in found[0]
    assert formatting.diagnosis(pool_entry(**numbers), [answer(*sessions, age=60.0)]) == []


def test_old_leases_look_like_leaks() -> None:
    entry = pool_entry(**FULL)
    entry["holders"] = [{"seconds": 40.0 + each, "note": "GET /export/"} for each in range(3)]
    [found] = formatting.diagnosis(entry, [])
    assert "3 of 4 leases are older than 30 s, most of all for GET /export/" in found


def test_the_queue_says_behind_whom_each_caller_waits() -> None:
    full = pool(leased=4, waiting=2)
    full["holders"] = [holder("GET /slow/", 12.0)]
    full["queue"] = [
        {"thread": "a", "seconds": 2.0, "note": "GET /1/"},
        {"thread": "b", "seconds": 1.0, "note": None},
    ]
    [total] = aggregate([process(full)])
    first, second = context._queue(total)
    assert first["behind"] == "4 leases, the longest for GET /slow/, 12 s"
    assert (second["behind"], second["age"], second["process"]) == ("1 caller", "1.00", "web1:1")


def test_pinned_leases_say_why_and_are_counted_by_reason() -> None:
    """With `scope="transaction"`."""
    shop = pool(leased=1)
    shop["holders"] = [{**holder("GET /", 1.0), "pinned": "temporary table"}]
    shop["stats"]["pins"] = {"temporary table": 2, "SET": 1}
    [total] = aggregate([process(shop)])
    assert total["holders"][0]["pinned"] == "temporary table"
    facts = {fact["label"]: fact for fact in context._facts(total["stats"])}
    assert facts["Pinned"]["value"] == "3"
    assert facts["Pinned"]["note"] == "2 temporary table, 1 SET"


def test_top_holders_have_shares() -> None:
    found = context._top({"GET /a/*/": 30.0, "": 10.0})
    assert [(each["purpose"], each["share"]) for each in found] == [("GET /a/*/", "75"), ("", "25")]


def test_held_times_are_added_up_by_purpose(db: None, reports: PostgresDatabase) -> None:
    own = reports.wrapper(pool={"max_size": 3, "name": "reports"}).resolve_pool()
    leases = [own.acquire(note=f"GET /orders/{number}/") for number in (1, 2)]
    held = HeldTimes()
    held.sample(own, 2.0, time.time())
    leases.pop().release()
    held.sample(own, 2.0, time.time())
    assert held.seconds() == {"GET /orders/*/": 6.0}
    leases.pop().release()


def test_sessions_of_silent_and_unknown_processes_are_marked() -> None:
    silent = {**process(pool(), pid=2), "silent": True, "age": 20.0}
    [total] = aggregate([process(pool()), silent])
    assert context._unheard(WEB, total) == ""
    assert context._unheard("pooling web1:2", total).startswith("not heard of since ")
    assert context._unheard("pooling web1:3", total) == "not heard of"
    assert context._unheard("psql", total) == ""


def test_an_action_stays_on_the_page_with_its_progress() -> None:
    event = {"kind": "command", "time": time.time(), "id": "x", "text": "drain", "process": ""}
    event |= {"user": "keeper", "pool": "id of default", "done": 1}
    [total] = aggregate([process(pool()), process(pool(), pid=2)])
    [order] = context._orders(total, [event])
    assert "drain by keeper, 1 of 2 processes done" in order["text"]


def test_a_size_that_differs_from_the_settings_is_said() -> None:
    resized = {**pool(), "options": {"min_size": 1, "max_size": 20}}
    [total] = aggregate([process(resized)])
    changed = context._changed(total)
    assert changed == {
        "what": "max_size 10 → 20",
        "setting": '"OPTIONS": {"pool": {"max_size": 20, ...}}',
    }


def test_the_graphs_have_gaps_and_the_events(staff: Staff) -> None:
    rows = [
        [100, 1, 0, 0, 0, 4, 10, 0, 0, 0, 0, {}],
        [102, 2, 0, 0, 3, 4, 5, 0, 0, 0, 1, {"20": 4}],
    ]
    columns = context._columns(rows, "5")
    assert columns["times"] == [500, 505, 510]
    assert columns["leased"] == [1, None, 2]
    assert columns["rate"] == [2.0, None, 1.0]
    assert columns["p95"] == [None, None, pytest.approx(1.024)]
    found = staff("view").get(reverse("admin:pooling_connectionpool_history"), {"range": "600"})
    assert {"from", "to", "pools", "events"} <= found.json().keys()
    assert staff().get(reverse("admin:pooling_connectionpool_history")).status_code == 403


@pytest.mark.parametrize(
    ("wanting", "note"),
    [
        (0, "used by 12 processes"),
        (1, "used by 12 processes, 1 of them wants more"),
        (3, "used by 12 processes, 3 of them want more"),
    ],
)
def test_the_budget_of_all_processes_is_shown(wanting: int, note: str) -> None:
    use = {"limit": 60, "used": 58, "processes": 12, "wanting": wanting}
    [total] = aggregate([process(pool(budget=use)), process(pool(), pid=2)])
    facts = {fact["label"]: fact for fact in context._facts(total["stats"])}
    assert facts["Budget"] == {"label": "Budget", "value": "58 of 60", "note": note}
    assert "Budget" not in {fact["label"] for fact in context._facts(pool()["stats"])}
