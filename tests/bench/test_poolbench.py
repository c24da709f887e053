"""`manage.py poolbench`, from the outside."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from pooling.bench import progress, report, runner, server, sessions
from pooling.bench.progress import report_progress
from pooling.bench.runner import Connections, Measurement, Plan, Result, Turn

QUICK = ("--rounds=1", "--iterations=4", "--threads=1,2", "--pool-size=2")
ROOT = Path(__file__).resolve().parents[2]


def poolbench(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("poolbench", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_prints_a_table_for_each_database_and_progress_on_stderr() -> None:
    out, err = poolbench(*QUICK)
    for expected in ("SQLite 3.", "PostgreSQL 18.", "with psycopg", "stock ms", "pooled ms"):
        assert expected in out
    for operation in ("connect", "create", "read", "update", "delete", "total"):
        assert out.count(f"  {operation}  ") == 4
    assert "pooled, 2 threads: 2 connections opened, at most 2 at once (max_size 2)" in out
    assert out.isascii()
    assert [line.split(": ")[1] for line in err.splitlines()] == 2 * [
        "connect, 1 thread",
        "crud, 1 thread",
        "connect, 2 threads",
        "crud, 2 threads",
    ]


@pytest.mark.parametrize("alias", ["default", "postgresql"])
def test_uses_the_server_of_an_alias(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "PrivatePostgres", None)
    out, _ = poolbench(*QUICK, f"--database={alias}")
    assert ("PostgreSQL" in out) == (alias == "postgresql")
    assert ("SQLite" in out) == (alias == "default")


def test_one_engine_only(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    out, _ = poolbench(*QUICK, "--engine=sqlite", f"--json={file}")
    assert "PostgreSQL" not in out
    data = json.loads(file.read_text())
    assert data["schema"] == 1
    assert data["environment"]["pool_size"] == 2
    entries = data["results"]
    assert len(entries) == 2 * 2 * 6
    entry = next(each for each in entries if (each["contender"], each["threads"]) == ("pooled", 2))
    assert entry["connections_peak"] <= 2
    assert entry["ratio_low"] <= entry["ratio"] <= entry["ratio_high"]
    assert len(entry["rounds_ms"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine=oracle"], "invalid choice: 'oracle'.*sqlite.*postgresql"),
        (["--rounds=0"], "--rounds: '0': a whole number from 1 is needed"),
        (["--iterations=many"], "--iterations: 'many': a whole number"),
        (["--pool-size=-1"], "--pool-size: '-1': a whole number"),
        (["--threads=1,x"], "--threads: 'x': a whole number"),
        (["--threads=5000"], "100 threads at most"),
        (["--database=shop"], "no database 'shop' in DATABASES; choose from 'default'"),
        (["--database=default", "--engine=sqlite"], "not allowed with"),
        (["--json=/no/such/folder/x.json"], "no such folder"),
    ],
)
def test_bad_arguments_are_one_clear_message(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        poolbench(*arguments)


def test_a_missing_server_wheel_is_an_error_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unavailable(*_: Any) -> None:
        raise server.PostgresUnavailableError("pip install 'pooling[bench]'")

    monkeypatch.setattr(server, "find_programs", unavailable)
    with pytest.raises(CommandError, match="pip install"):
        poolbench(*QUICK, "--engine=postgresql")


def test_a_contender_that_fails_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("out of luck")

    monkeypatch.setattr(runner, "take_turn", fail)
    with pytest.raises(CommandError, match=r"stock failed at connect with 1 thread.*out of luck"):
        poolbench(*QUICK, "--engine=sqlite")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_signal_leaves_nothing_behind(
    number: signal.Signals, engine: str, tmp_path: Path
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "poolbench", f"--engine={engine}", "--iterations=100000"],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TMPDIR": str(folder),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "connect, 1 thread" in process.stderr.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (out, err.strip()) == ("", "CommandError: interrupted; everything made was removed")
    assert process.returncode == 130
    assert list(folder.iterdir()) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def turns(plan: Plan) -> list[Turn]:
    return [
        Turn(arena="SQLite", contender="stock", workload="crud", threads=1, round=number)
        for number in range(plan.turns)
    ]


def test_a_terminal_gets_a_bar_that_nobody_draws_while_the_clock_runs() -> None:
    screen = Terminal()
    with report_progress(screen, 3) as on_turn:
        for turn in turns(Plan(rounds=2))[:3]:
            on_turn(turn)
            drawn = screen.tell()
        assert "2/3" in screen.getvalue()
        assert screen.tell() == drawn
    assert progress.describe(turn) in screen.getvalue()


def test_without_rich_a_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rich.progress", "rich.console", "rich.table"):
        monkeypatch.setitem(sys.modules, name, None)
    screen = Terminal()
    with report_progress(screen, 3) as on_turn:
        for turn in turns(Plan())[:3]:
            on_turn(turn)
    assert screen.getvalue() == "SQLite: crud, 1 thread\n"
    assert report.render_table(made_up_result(), 80) == report.render_table(made_up_result())


def made_up_result() -> Result:
    seconds = {
        "stock": (0.004, 0.006, 0.005, 0.005, 0.004),
        "pooled": (0.001, 0.002) + (0.001,) * 3,
    }
    measurements = [
        Measurement(
            arena="Some database",
            threads=1,
            workload="connect",
            operation=operation,
            contender=contender,
            seconds=seconds[contender if operation == "connect" else "stock"],
        )
        for operation in ("connect", "read")
        for contender in seconds
    ]
    counted = Connections(
        arena="Some database", threads=8, contender="pooled", opened=1234, peak=4, limit=4
    )
    return Result(measurements, [counted])


def test_the_table_shows_medians_and_ratios_and_where_the_noise_is_larger() -> None:
    text = report.render([made_up_result()], {"machine": "tin"}, Plan())
    assert text.splitlines()[0] == "machine: tin"
    assert text.splitlines()[-5:] == [
        "threads  operation  stock ms  pooled ms     pooled is faster by",
        "-------  ---------  --------  ---------  ----------------------",
        "      1    connect     5.000      1.000       4.0 x (3.0 - 5.0)",
        "      1       read     5.000      5.000  1.00 x (1.00 - 1.00) ?",
        "pooled, 8 threads: 1,234 connections opened, at most 4 at once (max_size 4)",
    ]


def test_a_terminal_gets_a_table_as_wide_as_it_is() -> None:
    drawn = report.render_table(made_up_result(), 75)
    assert "4.0 x (3.0 - 5.0)" in drawn
    assert "\x1b[" in drawn
