"""`manage.py poolstats`."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from pooling import activity, fleet
from pooling.fleet.archive import new_archive, roll
from pooling.fleet.snapshots import application_name
from pooling.management import poolstats_table
from pooling.management.commands import poolstats
from tests.metrics.samples import holder, measured, pool, process
from tests.support.databases import PATIENCE, Database, PostgresDatabase

if TYPE_CHECKING:
    from tests.support.mariadb import MariaDatabase
    from tests.support.projects import Project


REFUSED = "connection refused\nis the server running?"
OUTAGE = {"seconds": 32.0, "refused": 4043, "next_attempt": 0.2, "answered": False}


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that runs the command for a fleet, and returns what it writes."""

    def run(*processes: Any, options: dict[str, Any] | None = None, **more: Any) -> str:
        about = (more.pop("isolation_reason", None), more.pop("problem", None))
        seen = fleet.Fleet(list(processes), new_archive(), *about)
        monkeypatch.setattr(fleet, "read_all", lambda: seen)
        monkeypatch.setattr(fleet, "processes", lambda: seen.processes)
        stdout = StringIO()
        call_command("poolstats", stdout=stdout, **(options or {}))
        return stdout.getvalue()

    return run


def rows(text: str) -> list[list[str]]:
    """Return the cells of the table's lines, which are two spaces apart."""
    table = text.split("\n\n")[0].splitlines()
    return [re.split(r"\s{2,}", line.strip()) for line in table]


def test_the_table_has_a_line_for_each_pool_of_each_process(show: Any) -> None:
    busy = pool(
        waits=measured(*[0.002] * 99, 1.5), holds=measured(0.1), timeouts=2, rejected=1,
        connect_errors=4, leased=10, idle=0, waiting=6, max_wait=12.25, connecting=0,
    )  # fmt: skip
    text = show(process(busy, pool("other"), pid=7), process(pool(), pid=8, host="web2"))
    heading, _, *body, total = rows(text)

    assert heading[:8] == ["host", "pid", "pool", "max", "used", "idle", "conn", "wait"]
    assert [row[:8] for row in body] == [
        ["web1", "7", "default", "10", "10", "0", "0", "6"],
        ["web1", "7", "other", "10", "3", "2", "0", "0"],
        ["web2", "8", "default", "10", "3", "2", "0", "0"],
    ]
    assert body[0][8:] == [
        "12.2", "2.05", "2.05", "2.05", "131", "131", "131", "2", "1", "4", "exhausted",
    ]  # fmt: skip
    assert total == ["total", "30", "16", "4", "0", "6", "2", "1", "4"]


def test_the_columns_are_straight_and_plain_in_a_pipe(show: Any) -> None:
    text = show(process(pool("a"), pool("a longer name")), process(pool(), pid=12345))
    lines = text.split("\n\n")[0].splitlines()

    assert "\x1b" not in text
    start = lines[0].index("pool")
    assert [line[start:].split()[0] for line in lines[2:4]] == ["a", "a"]
    assert len({line.rindex("ok") for line in lines[2:5]}) == 1


@pytest.mark.parametrize("width", [80, 100, 140, 220])
def test_a_narrow_terminal_gets_fewer_columns_and_no_broken_lines(width: int) -> None:
    busy = pool(waits=measured(0.002), holds=measured(0.1))
    text = poolstats_table.render([process(busy)], isolation_reason=None, problem=None, width=width)
    headings = rows(text)[0]

    assert max(len(line) for line in text.splitlines()) <= width
    assert {"host", "pid", "pool", "max", "used", "idle", "wait", "timeouts"} <= set(headings)
    assert ("wait p50 ms" in headings) == (width == 220)
    if width == 140:
        assert [each for each in headings if "p95" in each] == ["wait p95 ms", "hold p95 ms"]


def test_it_says_who_holds_connections_longest_first(show: Any) -> None:
    shop = pool("shop")
    shop["holders"] = [holder("GET /", 0.5), holder("GET /report/", 61.0), holder(None, 2.0)]
    shop["holders"][0]["pinned"] = "SET"
    text = show(process(shop, pid=7))
    part = text[text.index("Leases,") :].splitlines()

    assert part == [
        "Leases, longest first:",
        "   1 min 1 s  GET /report/  (thread 'Thread-1', web1 7, pool 'shop')",
        "       2.0 s  (unknown)  (thread 'Thread-1', web1 7, pool 'shop')",
        "      500 ms  GET /, pinned: SET  (thread 'Thread-1', web1 7, pool 'shop')",
    ]


def test_many_holders_are_counted(show: Any) -> None:
    shop = pool("shop")
    shop["holders"] = [holder(f"GET /{number}/", number) for number in range(15)]
    shop["more_holders"] = 3
    text = show(process(shop))

    assert text.count("GET /") == poolstats_table.MAX_HOLDERS
    assert "... and 8 more" in text


def test_it_says_what_it_cannot_see(show: Any) -> None:
    assert "Only this process is shown: no cache." in show(isolation_reason="no cache")
    assert "Other processes may be missing: no cache." in show(process(pool()), problem="no cache")
    assert "No process has a pool in use." in show(process())


def test_the_last_error_and_the_state_are_shown(show: Any) -> None:
    text = show(
        process(pool("a", last_error=REFUSED, last_error_age=200.0), pid=1),
        process(pool("b", suspended=True), pid=2),
        process(pool("c", last_error=REFUSED, last_error_age=0.4, outage=OUTAGE), pid=3),
    )

    refused = "connection refused is the server running?"
    assert f"  pool 'a', 3 min 20 s ago, recovered since: {refused}" in text
    assert f"  pool 'c', 400 ms ago: {refused}" in text
    assert "  pool 'c': server unreachable for 32 s, 4,043 callers refused" in text
    assert [row[-1] for row in rows(text)[2:5]] == ["ok", "suspended", "down"]


def test_what_another_process_wrote_cannot_move_the_cursor(show: Any) -> None:
    evil = pool("\x1b[2Jname", last_error="\x1b[31mred", last_error_age=1.0)
    evil["holders"] = [holder("GET /\x1b]0;title\x07", 1.0, thread="\x1b[H")]

    assert "\x1b" not in show(process(evil, host="\x1b[1m"))


def test_old_numbers_say_how_old_they_are(show: Any) -> None:
    stale = process(pool())
    stale["age"], stale["silent"] = 16.2, True
    text = show(process(pool(), pid=2), stale)

    assert rows(text)[3][-1] == "silent for 16 s"
    assert rows(text)[-1][:3] == ["total", "10", "3"]  # what it had is not known to be there


def test_the_json_is_all_there_is(show: Any) -> None:
    found = json.loads(show(process(pool("a"), pid=5), options={"json": True}))

    assert found["alone"] is None
    assert found["problem"] is None
    assert found["processes"] == [process({**pool("a"), "state": "ok"}, pid=5)]


def test_pools_can_be_chosen_by_name_and_by_alias(show: Any) -> None:
    shared = pool("first")
    shared["aliases"] = ["first", "default"]
    seen = (process(shared, pool("b"), pid=1), process(pool("b"), pid=2), process(pool()))

    def shown(**options: Any) -> list[str]:
        found = json.loads(show(*seen, options={"json": True, **options}))
        return [each["name"] for one in found["processes"] for each in one["pools"]]

    assert shown(pool="b") == ["b", "b"]
    assert shown(alias="default") == ["first", "default"]
    assert shown(alias="default", pool="first") == ["first"]


@pytest.mark.parametrize("options", [{}, {"json": True}, {"watch": 1.0, "count": 1}])
def test_an_unknown_pool_is_refused_with_the_known_ones(show: Any, options: dict[str, Any]) -> None:
    message = "--pool nope: there is no such pool; known pools: 'b', 'default', 'first'"
    with pytest.raises(CommandError, match=message):
        show(process(pool("first"), pool("b")), options={"pool": "nope", **options})


def test_a_configured_pool_that_is_not_in_use_is_no_error(show: Any) -> None:
    assert "No process has a pool in use." in show(options={"pool": "default"})


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--alias", "nonsense"], "there is no DATABASES['nonsense']"),
        (["--count", "2"], "--count needs --watch"),
        (["--watch", "0"], "a number of seconds above 0"),
        (["--watch", "nan"], "a number of seconds above 0"),
        (["--watch", "--count", "0"], "a whole number from 1"),
    ],
)
def test_bad_input_is_refused_with_a_reason(args: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=re.escape(message)):
        call_command("poolstats", *args)


def test_an_alias_without_a_pool_is_refused(sqlite: Database) -> None:
    with sqlite.alias("unpooled", pool=False), pytest.raises(CommandError, match="has no pool"):
        call_command("poolstats", alias="unpooled")


def test_watching_shows_it_again_and_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(poolstats, "sleep", pauses.append)
    call_command("poolstats", "--watch", "7", "--count", "3", "--json")
    lines = capsys.readouterr().out.splitlines()

    assert pauses == [7.0, 7.0]
    assert len([json.loads(line) for line in lines]) == 3


def test_ctrl_c_ends_watching_without_a_trace(project: Project) -> None:
    """In a real terminal, where each look clears the screen."""
    master, slave = pty.openpty()
    watching = subprocess.Popen(
        project.command("manage.py", "poolstats", "--watch", "0.05"),
        cwd=project.folder,
        env=project.environment(),
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    text = ""

    def read() -> bool:
        nonlocal text
        try:
            text += os.read(master, 65536).decode()
        except OSError:  # Linux's way to say that the other end is closed
            return False
        return True

    try:
        deadline = time.monotonic() + PATIENCE
        while text.count(poolstats.CLEAR) < 3:
            assert time.monotonic() < deadline, text
            if select.select([master], [], [], 1)[0]:
                assert read(), text
        watching.send_signal(signal.SIGINT)
        while select.select([master], [], [], PATIENCE)[0] and read():
            assert time.monotonic() < deadline, "Ctrl-C does not end it (is SIGINT ignored here?)"
        assert watching.wait(PATIENCE) == 0
    finally:
        if watching.poll() is None:
            watching.kill()
            watching.wait()
        os.close(master)
    assert "Traceback" not in text
    # On the second screen, and the last look once more on the first one.
    assert text.startswith(poolstats.ENTER)
    last = text.rpartition(poolstats.LEAVE)[2]
    assert "No process has a pool in use." in last
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", last)
    assert "\x1b[2J" not in text
    assert "Only this process is shown" in text


def test_at_a_quiet_moment_the_numbers_are_those_of_pg_stat_activity(
    postgresql: PostgresDatabase,
) -> None:
    wrappers = [postgresql.wrapper(pool={"name": "quiet"}) for _ in range(4)]
    with activity.doing("the quiet test"):
        for wrapper in wrappers:
            wrapper.ensure_connection()
    wrappers[0].close()
    stdout = StringIO()
    call_command("poolstats", "--pool", "quiet", stdout=stdout)
    (row,) = rows(stdout.getvalue())[2:-1]

    assert row[1:7] == [str(os.getpid()), "quiet", "10", "3", "1", "0"]
    assert len(postgresql.sessions()) == 4
    assert stdout.getvalue().count("the quiet test") == 3


def test_it_needs_no_database(project: Project) -> None:
    project.databases["default"]["NAME"] = "/nonexistent/database"
    project.write(
        "settings.py", (project.folder / "settings.py").read_text() + "DATABASES['default'].update("
        "NAME='/nonexistent/x', HOST='127.0.0.1', PORT='1')\n",
    )  # fmt: skip

    assert "No process has a pool in use." in project.manage("poolstats").stdout


def test_no_secret_is_shown(postgresql: PostgresDatabase) -> None:
    planted = "planted-s3cret-passw0rd"
    broken = postgresql.wrapper(
        PASSWORD=planted, HOST="127.0.0.1", PORT="1", pool={"name": "broken", "timeout": 0.1}
    )
    with pytest.raises(broken.Database.OperationalError):
        broken.get_new_connection({})
    for options in ({}, {"json": True}):
        stdout = StringIO()
        call_command("poolstats", stdout=stdout, **options)
        assert "broken" in stdout.getvalue()
        assert planted not in stdout.getvalue()
    broken.resolve_pool().close()  # type: ignore[attr-defined]


def test_watching_in_a_pipe_clears_no_screen(project: Project) -> None:
    command = project.command("manage.py", "poolstats", "--watch", "0.01", "--count", "5")
    done = subprocess.run(
        command, cwd=project.folder, env=project.environment(), capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip

    assert done.returncode == 0
    assert done.stdout.count("No process has a pool in use.") == 5
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_watching_shows_rates(show: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(time: float, **stats: Any) -> fleet.Fleet:
        one = process(pool(**stats), time=time)
        return fleet.Fleet([one], roll(new_archive(), [one], [], time), None, None)

    looks = iter([seen(1000.0, acquired=5), seen(1002.0, acquired=25, rejected=4)])
    monkeypatch.setattr(fleet, "read_all", lambda: next(looks))
    monkeypatch.setattr(poolstats, "sleep", lambda seconds: None)
    stdout = StringIO()
    call_command("poolstats", "--watch", "2", "--count", "2", stdout=stdout)
    assert stdout.getvalue().count("leases/s") == 1
    rates = "10.0 leases/s, 0 timeouts/s, 2.00 rejected/s, 0 failed connects/s"
    assert f"  pool 'default': {rates}" in stdout.getvalue()


def test_the_server_s_sessions_are_shown(postgresql: PostgresDatabase) -> None:
    with postgresql.alias("shop", pool={"name": "shop"}):
        wrapper = connections["shop"]
        wrapper.ensure_connection()
        stdout = StringIO()
        call_command("poolstats", "--server", "--alias", "shop", stdout=stdout)
        name = application_name({"host": socket.gethostname(), "pid": os.getpid()})
        assert "Sessions on the server of pool 'shop':\n  PostgreSQL " in stdout.getvalue()
        assert f"      1  {name}: 1 idle\n" in stdout.getvalue()
        stdout = StringIO()
        call_command("poolstats", "--server", "--json", "--pool", "shop", stdout=stdout)
        [server] = json.loads(stdout.getvalue())["servers"]
        assert server["max_connections"] > 0
        wrapper.close()
    assert len(postgresql.sessions()) == 1


def test_mariadb_s_sessions_are_shown(mariadb: MariaDatabase) -> None:
    with mariadb.alias("shop", pool={"name": "shop"}) as wrapper:
        wrapper.ensure_connection()
        stdout = StringIO()
        call_command("poolstats", "--server", "--alias", "shop", stdout=stdout)
        wrapper.close()
    assert "Sessions on the server of pool 'shop':\n  MariaDB 1" in stdout.getvalue()
    assert f"      1  {mariadb.entry['USER']}@127.0.0.1: 1 idle\n" in stdout.getvalue()


def test_a_server_that_is_away_is_said_with_its_error(postgresql: PostgresDatabase) -> None:
    planted = "planted-s3cret-passw0rd"
    options = {"HOST": "127.0.0.1", "PORT": "1", "PASSWORD": planted}
    with postgresql.alias("away", pool={"name": "away"}, **options):
        stdout = StringIO()
        call_command("poolstats", "--server", "--alias", "away", stdout=stdout)
    assert "Sessions on the server of pool 'away': " in stdout.getvalue()
    assert "refused" in stdout.getvalue()
    assert planted not in stdout.getvalue()


def test_the_budget_is_a_line_under_the_table(show: Any) -> None:
    use = {"limit": 60, "used": 60, "processes": 12, "wanting": 1}
    text = show(process(pool(budget=use, waiting=1)))
    assert "\npool 'default': budget 60 of 60 used by 12 processes\n" in text
    assert "exhausted" in text.split("\n\n")[0]
