"""The system checks that ask a MariaDB server, with a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings as django_settings
from django.db import connections

from pooling.checks import check_servers
from tests.checks.test_options import texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.mariadb import MariaDatabase


@pytest.fixture
def said(
    mariadb: MariaDatabase, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[tuple[str, str]]]:
    """A function that returns what is said of the test's database under an alias."""

    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)

    def run(**changes: Any) -> list[tuple[str, str]]:
        with mariadb.alias("shop", **changes):
            entries = {"shop": connections.settings["shop"]}
            monkeypatch.setattr(django_settings, "DATABASES", entries)
            return texts(check_servers(None, databases=("shop",)))

    return run


def test_the_default_options_fit_the_default_server(mariadb: MariaDatabase, said: Any) -> None:
    assert said(pool=True) == []
    assert mariadb.sessions() == []


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ({"min_size": 1, "recycle": 3600}, "recycle=3600"),
        ({"min_size": 0, "recycle": 3600, "max_idle": 601}, "max_idle=601"),
        ({"min_size": 0, "recycle": None, "max_idle": None}, "recycle=None"),
    ],
)
def test_a_shorter_wait_timeout_is_warned_of(said: Any, pool: Any, words: str) -> None:
    options = {"init_command": "SET SESSION wait_timeout = 600"}
    ((id_, text),) = said(pool=pool, OPTIONS=options)
    assert id_ == "pooling.W010"
    assert "wait_timeout=600 s" in text
    assert words in text


def test_a_pool_below_it_is_fine(said: Any) -> None:
    options = {"init_command": "SET SESSION wait_timeout = 600"}
    assert said(pool={"min_size": 0, "max_idle": 300}, OPTIONS=options) == []


def test_more_connections_than_the_server_has_are_warned_of(
    mariadb: MariaDatabase, said: Any, settings: Any
) -> None:
    [(most,)] = mariadb.execute("SELECT @@max_connections")
    settings.POOLING = {"processes": 7}
    ((id_, text),) = said(pool={"max_size": most // 7 + 1})
    assert id_ == "pooling.W006"
    assert f"7 processes x max_size={most // 7 + 1}" in text
    assert f"room for {most} (max_connections={most}, " in text
    assert said(pool={"max_size": most // 7}) == []


def test_more_connections_than_the_user_may_have_are_warned_of(
    said: Any, mariadb_user: dict[str, str]
) -> None:
    ((id_, text),) = said(pool={"max_size": 8}, **mariadb_user)
    assert id_ == "pooling.W006"
    assert "'shop' may open 8 connections" in text
    assert "room for 7 (max_user_connections=7)" in text
    assert said(pool={"max_size": 7}, **mariadb_user) == []


def test_a_wrong_password_is_an_error(said: Any) -> None:
    ((id_, _),) = said(PASSWORD="wrong")
    assert id_ == "pooling.E004"


def test_a_server_that_does_not_run_is_told(said: Any) -> None:
    ((id_, _),) = said(PORT="1")
    assert id_ == "pooling.I001"
