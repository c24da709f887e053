from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.core.exceptions import ImproperlyConfigured

from poolproject.database import SQLITE_OPTIONS, database
from poolproject.environment import Environment
from tests.project.conftest import PRODUCTION

if TYPE_CHECKING:
    from typing import Any

    from tests.project.conftest import Project
    from tests.support.mariadb import MariaDatabase

HERE = Path("/srv/project")


def config(monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, Any]:
    monkeypatch.setattr(Environment, "ENVIRON", variables)
    return database(Environment(HERE / "no.env"), HERE)


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """Return all that a traceback would show."""
    with pytest.raises(ImproperlyConfigured) as raised:
        config(monkeypatch, **variables)
    error = raised.value
    return "".join(traceback.format_exception_only(error)) + repr(
        None if error.__suppress_context__ else error.__context__
    )


def test_the_default_is_a_pooled_sqlite_file_beside_manage_py(project: Project) -> None:
    for environment in ({}, {"DATABASE_URL": ""}):
        default = project.settings(**PRODUCTION, **environment)["DATABASES"]["default"]
        assert default["ENGINE"] == "pooling.backends.sqlite3"
        assert default["NAME"] == str(project.path / "db.sqlite3")
        assert default["OPTIONS"] == SQLITE_OPTIONS


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///other.sqlite3", HERE / "other.sqlite3"),
        ("sqlite:///data/other.sqlite3", HERE / "data/other.sqlite3"),
        ("sqlite:////var/lib/other.sqlite3", Path("/var/lib/other.sqlite3")),
        ("sqlite://", ":memory:"),
        ("sqlite://:memory:", ":memory:"),
    ],
)
def test_sqlite_files_lie_beside_manage_py_unless_they_are_absolute(
    monkeypatch: pytest.MonkeyPatch, url: str, name: str | Path
) -> None:
    default = config(monkeypatch, DATABASE_URL=url)
    assert default["ENGINE"] == "pooling.backends.sqlite3"
    assert default["NAME"] == name


def test_options_of_the_url_win_over_those_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    options = config(monkeypatch, DATABASE_URL="sqlite:///a.db?transaction_mode=DEFERRED")[
        "OPTIONS"
    ]
    assert options["transaction_mode"] == "DEFERRED"
    assert options["init_command"] == SQLITE_OPTIONS["init_command"]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_postgresql_urls_pick_the_pooled_engine(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    url = f"{scheme}://me:p%40ss%2Fword@db.example:5433/shop?sslmode=require&connect_timeout=5"
    assert config(monkeypatch, DATABASE_URL=url) == {
        "ENGINE": "pooling.backends.postgresql",
        "NAME": "shop",
        "USER": "me",
        "PASSWORD": "p@ss/word",
        "HOST": "db.example",
        "PORT": 5433,
        "OPTIONS": {"sslmode": "require", "connect_timeout": 5},
    }


def test_the_pool_gets_only_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    url = {"DATABASE_URL": "postgres://localhost/shop"}
    assert "pool" not in config(monkeypatch, **url)["OPTIONS"]
    assert config(monkeypatch, **url, POOL_MAX_SIZE="5")["OPTIONS"]["pool"] == {"max_size": 5}
    everything = config(
        monkeypatch,
        **url,
        POOL_MIN_SIZE="2",
        POOL_MAX_SIZE=" 5 ",
        POOL_TIMEOUT="2.5",
        POOL_RECYCLE="600",
    )
    assert everything["OPTIONS"]["pool"] == {
        "min_size": 2,
        "max_size": 5,
        "timeout": 2.5,
        "recycle": 600.0,
    }


@pytest.mark.parametrize("name", ["POOL_MIN_SIZE", "POOL_MAX_SIZE", "POOL_TIMEOUT", "POOL_RECYCLE"])
@pytest.mark.parametrize("value", ["", " ", "many", "3O", "1,5", "nan", "inf"])
def test_a_number_that_is_none_is_an_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    message = refusal(monkeypatch, **{name: value})
    assert f"{name} must be a" in message
    assert repr(value.strip()) in message


@pytest.mark.parametrize("name", ["POOL_MIN_SIZE", "POOL_MAX_SIZE"])
def test_sizes_are_whole_numbers(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert f"{name} must be a whole number" in refusal(monkeypatch, **{name: "2.5"})


def test_a_mysql_url_leads_to_the_pooled_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = config(monkeypatch, DATABASE_URL="mysql://me:hunter2@db.example:3307/shop")
    assert entry["ENGINE"] == "pooling.backends.mysql"
    assert (entry["NAME"], entry["USER"], entry["PORT"]) == ("shop", "me", 3307)


def test_the_demo_works_with_mariadb(mariadb: MariaDatabase, project: Project) -> None:
    server, name = mariadb.server, mariadb.entry["NAME"]
    url = f"mysql://{server.user}:{server.password}@{server.host}:{server.port}/{name}"
    environment = {**PRODUCTION, "DATABASE_URL": url, "POOL_MAX_SIZE": "7"}
    done = project.manage("migrate", "--verbosity=0", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("users_user",) in mariadb.execute("SHOW TABLES")
    done = project.manage("poolstats", "--server", **environment)
    assert "  MariaDB 1" in done.stdout
    assert server.password not in done.stdout + done.stderr


@pytest.mark.parametrize("scheme", ["oracle", "postgis", "https", "Postgres"])
def test_other_schemes_are_refused(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    message = refusal(monkeypatch, DATABASE_URL=f"{scheme}://me:hunter2@db.example/shop")
    assert f"no pooled database engine for '{scheme}'" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "me:hunter2@db.example/shop",
        "postgres:me:hunter2@db.example/shop",
        "postgres://me:hunter2/x@db.example/shop",
        "postgres://me:12/hunter2@db.example/shop",
        "postgres://me:hunter2#x@db.example/shop",
        "postgres://me:12#hunter2@db.example/shop",
        "postgres://me:12?hunter2@db.example/shop",
        "postgres://me:[hunter2@db.example/shop",
        "postgres://me:secret@db.example:hunter2/shop",
        "postgres://me:secret@db.example:99999/shop?hunter2=1",
        "sqlite://hunter2/db.sqlite3",
        "sqlite:hunter2",
        "postgres://me:hunter2@db.example/shop?pool=true",
    ],
)
def test_a_malformed_url_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    message = refusal(monkeypatch, DATABASE_URL=url)
    assert "DATABASE_URL" in message
    assert "hunter2" not in message
    assert "me:" not in message


def test_the_pools_options_do_not_go_into_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(monkeypatch, DATABASE_URL="postgres://localhost/shop?pool=true")
    assert "POOL_MAX_SIZE" in message
