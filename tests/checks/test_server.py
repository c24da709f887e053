"""The system checks that ask the server, with a real one."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections

from pooling.checks import check_servers
from tests.checks.bouncer import Bouncer
from tests.checks.test_options import texts
from tests.metrics.samples import pool, process

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.databases import PostgresDatabase


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)


@pytest.fixture
def said(
    postgresql: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[tuple[str, str]]]:
    """A function that returns what is said of the test's database under an alias."""

    def run(asked: tuple[str, ...] | None = ("shop",), **changes: Any) -> list[tuple[str, str]]:
        with postgresql.alias("shop", **changes):
            entries = {"shop": connections.settings["shop"]}
            monkeypatch.setattr(django_settings, "DATABASES", entries)
            return texts(check_servers(None, databases=asked))

    return run


def room_of(postgresql: PostgresDatabase) -> int:
    [(room,)] = postgresql.execute(
        "SELECT current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int"
        " - coalesce(current_setting('reserved_connections', true), '0')::int"
    )
    return int(room)


def test_nothing_is_asked_without_the_option(postgresql: PostgresDatabase, said: Any) -> None:
    for asked in (None, (), ("other",)):
        assert said(asked, HOST="127.0.0.1", PORT="1") == []


def test_a_server_with_room_is_left_in_peace(postgresql: PostgresDatabase, said: Any) -> None:
    assert said(pool={"max_size": room_of(postgresql)}) == []
    assert postgresql.sessions() == []


def test_more_connections_than_the_server_has_are_warned_of(
    postgresql: PostgresDatabase, said: Any, settings: Any
) -> None:
    room = room_of(postgresql)
    settings.POOLING = {"processes": 7}
    ((id_, text),) = said(pool={"max_size": room // 7 + 1})

    assert id_ == "pooling.W006"
    assert f"7 processes x max_size={room // 7 + 1}" in text
    assert f"room for {room} " in text
    assert said(pool={"max_size": room // 7}) == []


def test_one_process_is_the_least_there_can_be(postgresql: PostgresDatabase, said: Any) -> None:
    ((id_, text),) = said(pool={"max_size": room_of(postgresql) + 1})

    assert id_ == "pooling.W006"
    assert "(at least 1 process x" in text


def test_processes_that_are_seen_count(
    postgresql: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of this command say nothing of how many web processes there are."""
    seen = [process(pool("shop"), pid=pid) for pid in range(1, 5)]
    monkeypatch.setattr("pooling.fleet.processes", lambda: [*seen, process(pool("other"), pid=9)])
    options = {"max_size": room_of(postgresql) // 4 + 1}
    with postgresql.alias("shop", pool=options):
        entries = {"shop": connections.settings["shop"]}
        monkeypatch.setattr(django_settings, "DATABASES", entries)
        ((id_, text),) = texts(check_servers(None, databases=["shop"]))

    assert id_ == "pooling.W006"
    assert "(according to the shared cache: 4 processes x" in text


def test_pools_on_the_same_server_are_added_up(
    postgresql: PostgresDatabase, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    room = room_of(postgresql)
    pool = {"max_size": room // 2 + 1}
    with postgresql.alias("one", pool=pool), postgresql.alias("two", pool={**pool, "name": "own"}):
        entries = {alias: connections.settings[alias] for alias in ("one", "two")}
        monkeypatch.setattr(django_settings, "DATABASES", entries)
        ((id_, text),) = texts(check_servers(None, databases=["one", "two"]))

    assert id_ == "pooling.W006"
    assert "'one' + 'two' may open" in text


def test_a_server_that_is_down_is_said_and_not_waited_for(said: Any) -> None:
    ((id_, text),) = said(HOST="127.0.0.1", PORT="1", PASSWORD="planted-s3cret")

    assert id_ == "pooling.I001"
    assert "connection" in text
    assert "planted-s3cret" not in text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"PASSWORD": "planted-s3cret"}, "password authentication failed"),
        ({"NAME": "nosuchdatabase"}, 'database "nosuchdatabase" does not exist'),
        ({"OPTIONS": {"sslmod": "require"}}, '"sslmod"'),
        ({"OPTIONS": {"sslmode": "planted"}}, 'invalid sslmode value: "planted"'),
    ],
    ids=["password", "database", "unknown option", "invalid value"],
)
def test_a_refused_connection_is_an_error(said: Any, changes: dict[str, Any], text: str) -> None:
    ((id_, found),) = said(**changes)

    assert id_ == "pooling.E004"
    assert text in found
    assert "planted-s3cret" not in found


def test_an_invalid_option_of_sqlite_is_an_error(sqlite: Any, monkeypatch: Any) -> None:
    with sqlite.alias("file", OPTIONS={"nonsense": "1"}):
        entries = {"file": connections.settings["file"]}
        monkeypatch.setattr(django_settings, "DATABASES", entries)
        ((id_, found),) = texts(check_servers(None, databases=["file"]))

    assert id_ == "pooling.E004"
    assert "DATABASES['file']" in found
    assert "'nonsense'" in found
    assert not Path(sqlite.entry["NAME"]).exists()


def test_manage_py_check_fails_for_a_refused_connection(
    postgresql: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgresql.alias("shop", PASSWORD="planted-s3cret"):
        entries = {"shop": connections.settings["shop"]}
        monkeypatch.setattr(django_settings, "DATABASES", entries)
        with pytest.raises(SystemCheckError, match=r"E004.*password authentication failed"):
            call_command("check", databases=["shop"])


@pytest.fixture
def server(postgresql: PostgresDatabase) -> tuple[socket.AddressFamily, Any]:
    """Where the session's server listens, for a proxy."""
    host, port = postgresql.entry["HOST"], postgresql.entry["PORT"] or "5432"
    if host.startswith("/"):
        return socket.AF_UNIX, f"{host}/.s.PGSQL.{port}"
    return socket.AF_INET, (host or "127.0.0.1", int(port))


def through(bouncer: Bouncer) -> dict[str, str]:
    return {"HOST": "127.0.0.1", "PORT": str(bouncer.port)}


@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("told", ["by database", "by default"])
def test_pgbouncer_in_transaction_mode_wants_no_server_side_cursors(
    postgresql: PostgresDatabase, server: Any, said: Any, mode: str, told: str
) -> None:
    name = postgresql.entry["NAME"]
    own = mode if told == "by database" else None
    default = "session" if own else mode
    databases = (("other", "session"), (name, own))
    no_cursors = {"DISABLE_SERVER_SIDE_CURSORS": True}
    with Bouncer(server, databases=databases, mode=default) as bouncer:
        found = dict(said(**through(bouncer), pool={"max_size": 10**6}))
        unusable = {"pooling.W011"} if mode == "statement" else set()
        assert set(found) == {"pooling.W007"} | unusable
        assert f"PgBouncer is in {mode} mode" in found["pooling.W007"]
        assert {id_ for id_, _ in said(**through(bouncer), **no_cursors)} == unusable


@pytest.mark.parametrize(("prepared", "ids"), [(0, {"pooling.W012"}), (100, set())])
def test_a_pgbouncer_that_tracks_prepared_statements_may_have_them(
    server: Any, said: Any, psycopg2: bool, prepared: int, ids: set[str]
) -> None:
    if psycopg2:
        pytest.skip("psycopg2 prepares no statements")
    options = {"prepare_threshold": 5, "server_side_binding": True}
    changes = {"DISABLE_SERVER_SIDE_CURSORS": True, "OPTIONS": options}
    with Bouncer(server, mode="transaction", prepared=prepared) as bouncer:
        assert {id_ for id_, _ in said(**through(bouncer), **changes)} == ids


def test_pgbouncer_in_session_mode_is_left_in_peace(
    postgresql: PostgresDatabase, server: Any, said: Any
) -> None:
    """Its own limits count, not the server's, so `max_size` is not held against those."""
    with Bouncer(server, databases=((postgresql.entry["NAME"], None),)) as bouncer:
        assert said(**through(bouncer), pool={"max_size": 10**6}) == []


def test_a_proxy_that_does_not_tell_its_mode_is_called_that(server: Any, said: Any) -> None:
    with Bouncer(server, console=False) as bouncer:
        ((id_, text),) = said(**through(bouncer))
        assert id_ == "pooling.W008"
        assert "or another proxy" in text
        assert said(**through(bouncer), DISABLE_SERVER_SIDE_CURSORS=True) == []


@pytest.mark.parametrize("mode", ["session", "transaction", "unknown"])
def test_a_budget_needs_sessions_of_its_own(server: Any, said: Any, mode: str) -> None:
    console = mode != "unknown"
    with Bouncer(server, mode=mode if console else "session", console=console) as bouncer:
        found = said(**through(bouncer), pool={"budget": 5}, DISABLE_SERVER_SIDE_CURSORS=True)
        assert [id_ for id_, _ in found] == ["pooling.E005"] * (mode != "session")
        assert all(f"pool mode: {mode}" in text for _, text in found)


def test_a_budget_is_what_all_processes_may_open(said: Any, settings: Any) -> None:
    settings.POOLING = {"processes": 10, "publish_every": None}
    assert said(pool={"max_size": 50, "budget": 40}) == []
    ((id_, text),) = said(pool={"max_size": 50, "budget": 200})
    assert id_ == "pooling.W006"
    assert "may open 210 connections" in text
    assert "10 processes, one more than budget=200 each" in text


def test_they_belong_to_the_option_database(
    postgresql: PostgresDatabase, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with postgresql.alias("shop", pool={"max_size": 10**6}):
        entries = {"shop": connections.settings["shop"]}
        monkeypatch.setattr(django_settings, "DATABASES", entries)
        call_command("check")
        assert "W006" not in capsys.readouterr().err
        call_command("check", databases=["shop"])
        assert "(pooling.W006)" in capsys.readouterr().err
