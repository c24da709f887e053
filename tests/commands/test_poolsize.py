"""`manage.py poolsize`."""

from __future__ import annotations

import json
import os
import re
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command

from pooling.management.commands import poolsize

if TYPE_CHECKING:
    from tests.support.databases import PostgresDatabase, SqliteDatabase
    from tests.support.mariadb import MariaDatabase

PLANTED = "planted-s3cret-passw0rd"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)


def run(*args: str) -> str:
    stdout = StringIO()
    call_command("poolsize", *args, stdout=stdout)
    return stdout.getvalue()


def test_it_asks_the_server_and_shows_the_calculation(postgresql: PostgresDatabase) -> None:
    with postgresql.alias("shop", pool={"name": "shop", "max_size": 10}):
        text = run("--alias", "shop", "--seconds", "0", "--processes", "4", "--server-cores", "8")
    ((connections,),) = postgresql.execute("SHOW max_connections")

    assert text.startswith("No load seen, no advice for 'shop' (now max_size=10).\n")
    assert "an upper limit:\n5 in each process" in text
    assert "(cores x 2 + spindles)." in text
    assert "8 cores x 2 + 1 spindles = 17" in text
    assert f"({connections} - " in text
    assert "4 processes (--processes)" in text
    assert "Unknown:" in text


def test_the_json_is_the_same_for_programs(postgresql: PostgresDatabase) -> None:
    with postgresql.alias("shop", pool={"max_size": 10}):
        found = json.loads(run("--alias", "shop", "--seconds", "0", "--json"))

    assert found["alias"] == "shop"
    assert found["facts"]["max_size"] == 10
    assert found["facts"]["pooler"] is None
    assert found["facts"]["max_connections"] > found["facts"]["reserved"] > 0
    assert found["max_size"] >= 1
    assert [step["name"] for step in found["steps"]] == [
        "Little's law", "cores x 2 + spindles", "threads", "max_connections", "together",
    ]  # fmt: skip


def test_it_measures_the_load_meanwhile(
    postgresql: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Little's law on a real pool: what it says is what happened between the two looks."""
    with postgresql.alias("shop", pool={"name": "shop"}) as wrapper:
        wrapper.ensure_connection()
        wrapper.close()

        def work(seconds: float) -> None:
            assert seconds == 10.0
            for _ in range(5):
                wrapper.ensure_connection()
                wrapper.close()

        monkeypatch.setattr(poolsize, "sleep", work)
        found = json.loads(run("--alias", "shop", "--json"))

    facts = found["facts"]["measured"]
    assert (facts["processes"], facts["leases"], facts["timeouts"]) == (1, 5, 0)
    assert facts["seconds"] > 0
    assert 0 < facts["held"] <= 1  # one thread holds one connection at most
    assert found["facts"]["processes_source"] == "seen in the cache"
    assert found["reason"] == "Little's law"


def test_the_number_of_processes_comes_from_the_settings(
    postgresql: PostgresDatabase, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source() -> str:
        return json.loads(run("--alias", "shop", "--seconds", "0", "--json"))["facts"][
            "processes_source"
        ]

    with postgresql.alias("shop"):
        assert source() == "default"
        monkeypatch.setenv("WEB_CONCURRENCY", "4")
        assert source() == "the environment variable WEB_CONCURRENCY"
        monkeypatch.setenv("GUNICORN_CMD_ARGS", "--threads=8 -w 3")
        assert source() == "--workers in GUNICORN_CMD_ARGS"
        settings.POOLING = {"processes": 7}
        assert source() == "POOLING['processes']"


def test_a_local_servers_cores_are_this_machines(postgresql: PostgresDatabase) -> None:
    with postgresql.alias("shop"):
        facts = json.loads(run("--alias", "shop", "--seconds", "0", "--json"))["facts"]

    if postgresql.entry["HOST"] in poolsize.LOCAL or postgresql.entry["HOST"].startswith("/"):
        assert facts["cores"] == os.cpu_count()
        assert "this machine" in facts["cores_source"]


def test_mariadb_is_asked_as_well(mariadb: MariaDatabase, mariadb_user: dict[str, str]) -> None:
    options = ("--alias", "shop", "--seconds", "0", "--processes", "2", "--server-cores", "64")
    ((most,),) = mariadb.execute("SELECT @@max_connections")
    with mariadb.alias("shop"):
        text = run(*options)
    assert f"({most} - 0 reserved) / 2 processes (--processes) = {most / 2:.1f} per" in text
    with mariadb.alias("low", **mariadb_user):
        text = run(*options[2:], "--alias", "low")
    assert "max_user_connections  7 / 2 processes (--processes) = 3.5 per process" in text
    assert "\n3 in each process (max_user_connections)." in text


def test_sqlite_has_no_server_to_ask(sqlite: SqliteDatabase) -> None:
    with sqlite.alias("file", pool={"max_size": 6}):
        text = run("--alias", "file", "--seconds", "0")

    assert "an upper limit:\n6 in each process" in text
    assert "unknown, or no limit" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--alias", "nonsense"], "there is no DATABASES['nonsense']"),
        (["--processes", "0"], "a whole number from 1"),
        (["--server-cores", "many"], "a whole number from 1"),
        (["--seconds", "-1"], "invalid duration value"),
    ],
)
def test_bad_input_is_refused_with_a_reason(args: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=re.escape(message)):
        run(*args)


def test_a_server_that_is_down_is_said_in_its_own_words_and_without_the_password(
    postgresql: PostgresDatabase,
) -> None:
    with (
        postgresql.alias("shop", HOST="127.0.0.1", PORT="1", PASSWORD=PLANTED),
        pytest.raises(CommandError) as raised,
    ):
        run("--alias", "shop", "--seconds", "0")

    assert "refused" in str(raised.value)
    assert PLANTED not in str(raised.value)


def test_no_secret_is_shown(postgresql: PostgresDatabase, settings: Any) -> None:
    settings.SECRET_KEY = PLANTED
    postgresql.execute(f"CREATE ROLE sizing LOGIN PASSWORD '{PLANTED}'")
    try:
        with postgresql.alias("shop", USER="sizing", PASSWORD=PLANTED):
            for args in ([], ["--json"]):
                assert PLANTED not in run("--alias", "shop", "--seconds", "0", *args)
    finally:
        postgresql.execute("DROP ROLE sizing")


def test_interrupting_the_measurement_is_no_failure_of_ours(
    sqlite: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(poolsize, "sleep", interrupt)
    with sqlite.alias("file"), pytest.raises(CommandError, match="interrupted"):
        run("--alias", "file")
