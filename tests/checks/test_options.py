"""The system checks that look at the settings alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings as django_settings
from django.db import connections

from pooling.checks import check_pools, check_setting, check_threads
from tests.support.databases import checks_connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.core import checks

    from tests.support.databases import Database
    from tests.support.projects import Project

SQLITE = {"ENGINE": "pooling.backends.sqlite3", "NAME": "/tmp/never-made.sqlite3"}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, str]]]:
    """A function that returns what is said of an entry of DATABASES."""

    def run(**entry: Any) -> list[tuple[str, str]]:
        databases = {"default": {**SQLITE, **entry}}
        monkeypatch.setattr(django_settings, "DATABASES", databases)
        return texts(check_pools(None))

    return run


def texts(messages: list[checks.CheckMessage]) -> list[tuple[str, str]]:
    for message in messages:
        assert message.hint
    return [(str(message.id), str(message.msg)) for message in messages]


def options(**pool: Any) -> dict[str, Any]:
    return {"OPTIONS": {"pool": pool}}


def test_sound_settings_are_left_in_peace(said: Any) -> None:
    assert said() == []
    assert said(**options(min_size=2, max_size=20, recycle=1800, max_idle=300, ping_after=10)) == []
    assert said(CONN_MAX_AGE=0, CONN_HEALTH_CHECKS=False) == []


def test_atomic_requests_beside_the_scope_of_a_transaction(said: Any) -> None:
    [(number, message)] = said(**options(scope="transaction"), ATOMIC_REQUESTS=True)
    assert number == "pooling.W009"
    assert message.startswith("DATABASES['default']: with ATOMIC_REQUESTS each request is one")
    assert said(**options(scope="transaction")) == []
    assert said(**options(scope="request"), ATOMIC_REQUESTS=True) == []


def test_other_engines_are_none_of_our_business(said: Any) -> None:
    engine = "django.db.backends.postgresql"

    assert said(ENGINE=engine, CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True) == []


def test_every_wrong_option_is_named_with_its_path(said: Any) -> None:
    found = said(**options(max_sise=3, timeout="30"))

    assert [id_ for id_, _ in found] == ["pooling.E001", "pooling.E001"]
    assert "unknown option 'max_sise'; did you mean 'max_size'?" in found[0][1]
    assert found[1][1].startswith("DATABASES['default']['OPTIONS']['pool']['timeout']: must be")


def test_conn_max_age_has_an_id_of_its_own(said: Any) -> None:
    ((id_, text),) = said(CONN_MAX_AGE=None)

    assert id_ == "pooling.E002"
    assert "CONN_MAX_AGE=None would pin one connection to each thread" in text


def test_a_wrong_option_hides_no_other_mistake(said: Any) -> None:
    found = said(CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True, **options(max_sise=3))

    assert [id_ for id_, _ in found] == ["pooling.E001", "pooling.E002", "pooling.W001"]


def test_conn_max_age_without_a_pool_is_allowed(said: Any) -> None:
    assert said(CONN_MAX_AGE=60, OPTIONS={"pool": False}) == []


def test_conn_health_checks_are_told_what_replaces_them(said: Any) -> None:
    ((id_, text),) = said(CONN_HEALTH_CHECKS=True)

    assert id_ == "pooling.W001"
    assert "no effect" in text
    assert "ping_after" in str(check_pools(None)[0].hint)


@pytest.mark.parametrize(
    ("pool", "text"),
    [
        ({"max_idle": 7200}, "max_idle=7200 has no effect: connections are replaced sooner"),
        ({"max_idle": 600, "max_lifetime": 300}, "at the age of recycle=300"),
        ({"min_size": 5, "max_size": 5, "max_idle": 60}, "min_size=5, which is max_size"),
        ({"ping_after": 7200}, "ping_after=7200 has no effect"),
        ({"min_size": 0, "max_idle": 60, "ping_after": 60}, "with max_idle=60"),
    ],
)
def test_options_that_can_do_nothing_are_named(said: Any, pool: dict[str, Any], text: str) -> None:
    ((id_, found),) = said(**options(**pool))

    assert id_ == "pooling.W002"
    assert text in found


@pytest.mark.parametrize(
    "pool",
    [
        {"recycle": 300},  # below the default of max_idle, which nobody wrote down
        {"min_size": 10, "max_size": 10},
        {"min_size": 1, "max_idle": 60, "ping_after": 60},  # the one that is kept may rest
        {"max_idle": None, "ping_after": None, "recycle": None},
        {"ping_after": 0},
        {"recycle": 10, "ping_after": None},
    ],
)
def test_options_that_make_sense_are_not(said: Any, pool: dict[str, Any]) -> None:
    assert said(**options(**pool)) == []


@pytest.mark.parametrize(
    "name", [":memory:", "", "file::memory:?cache=shared", "file:x?mode=memory"]
)
def test_sqlite_in_memory_is_not_pooled(said: Any, name: str) -> None:
    ((id_, _),) = said(NAME=name)

    assert id_ == "pooling.W004"
    assert said(NAME=name, OPTIONS={"pool": False}) == []


def test_djangos_own_test_database_in_memory_is_no_mistake(said: Any) -> None:
    """`manage.py test` runs the checks after it has put that name into the settings."""
    assert said(NAME="file:memorydb_default?mode=memory&cache=shared") == []


def test_two_aliases_that_share_a_pool_of_one_are_warned_of(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(**changes: Any) -> list[tuple[str, str]]:
        one = {"pool": {"max_size": 1}}
        with database.alias("one", **one), database.alias("two", **{**one, **changes}):
            entries = {alias: connections.settings[alias] for alias in ("one", "two")}
            monkeypatch.setattr(django_settings, "DATABASES", entries)
            return texts(check_pools(None))

    ((id_, text),) = found()
    assert id_ == "pooling.W003"
    assert "'one' and 'two' are the same database and share a pool of max_size=1" in text
    assert found(pool={"max_size": 1, "name": "own"}) == []
    assert found(pool={"max_size": 2}) == []
    assert found(OPTIONS={"pool": False}, pool=None) == []
    assert database.sessions() == []


def test_a_pool_that_cannot_even_be_made_is_left_to_others(said: Any) -> None:
    assert said(ENGINE="pooling.backends.postgresql", NAME="", **options(max_size=1)) == []


PREFIX_RULE = "must be a string of at most 100 ASCII characters without spaces"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([], "POOLING: must be a mapping of options, not list"),
        ({"metrics_tokn": "x"}, "unknown option 'metrics_tokn'; did you mean 'metrics_token'?"),
        ({"processes": 0}, "POOLING['processes']: must be a whole number from 1, not 0"),
        ({"threads": True}, "POOLING['threads']: must be a whole number from 1, not True"),
        ({"metrics_networks": "127.0.0.1"}, "must be a list of networks"),
        ({"publish_every": 0}, "POOLING['publish_every']: must be a number of seconds above 0"),
        ({"publish_every": "2"}, "or None to publish nothing, not '2'"),
        ({"cache": "redis"}, "POOLING['cache']: there is no CACHES['redis']"),
        ({"prefix": None}, f"POOLING['prefix']: {PREFIX_RULE}, not None"),
        ({"prefix": "a shop"}, f"POOLING['prefix']: {PREFIX_RULE}, not 'a shop'"),
        ({"activity": "no"}, "POOLING['activity']: must be True or False, not 'no'"),
        ({"metrics_networks": ["127.0.0.1/33"]}, "'127.0.0.1/33' does not appear to be"),
        ({"metrics_networks": ["127.0.0.1/8"]}, "has host bits set"),
    ],
)
def test_mistakes_in_the_setting_are_errors(settings: Any, given: Any, text: str) -> None:
    settings.POOLING = given
    ((id_, found),) = texts(check_setting(None))

    assert id_ == "pooling.E003"
    assert text in found


def test_a_short_token_is_refused_without_being_shown(settings: Any) -> None:
    settings.POOLING = {"metrics_token": "hunter2"}
    ((id_, found),) = texts(check_setting(None))

    assert id_ == "pooling.E003"
    assert "at least 16 characters" in found
    assert "hunter2" not in found


def test_the_setting_may_be_missing_or_complete(settings: Any) -> None:
    assert check_setting(None) == []
    settings.POOLING = {
        "publish_every": 2.0,
        "cache": "default",
        "prefix": "shop",
        "activity": True,
        "processes": 4,
        "threads": 8,
        "metrics_token": "a-token-that-is-long-enough",
        "metrics_networks": ["127.0.0.1/32", "fd00::/8"],
    }
    assert check_setting(None) == []


@pytest.mark.parametrize(
    ("environment", "setting", "source"),
    [
        ("--threads 12 --workers 2", {}, "--threads in GUNICORN_CMD_ARGS"),
        ("-w 2 --threads=12", {}, "--threads in GUNICORN_CMD_ARGS"),
        ("--threads 2", {"threads": 12}, "POOLING['threads']"),
    ],
)
def test_more_threads_than_connections_are_warned_of(
    said: Any,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
    setting: dict[str, int],
    source: str,
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", environment)
    settings.POOLING = setting
    said()
    ((id_, text),) = texts(check_threads(None))

    assert id_ == "pooling.W005"
    assert text == (f"DATABASES['default']: 12 threads ({source}) share max_size=10 connections")
    said(**options(max_size=12))
    assert check_threads(None) == []


@pytest.mark.parametrize("environment", ["", "--threads", "--threads many", "--threads '", "-w 50"])
def test_threads_that_are_not_known_are_not_guessed(
    said: Any, monkeypatch: pytest.MonkeyPatch, environment: str
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", environment)
    said()

    assert check_threads(None) == []


def test_they_are_registered(project: Project, database: Database) -> None:
    if checks_connect(database):
        pytest.skip("the checks of Django itself connect, and fail by the first mistake")
    project.databases["default"]["OPTIONS"]["pool"] = {"max_sise": 3}
    text = (project.folder / "settings.py").read_text()
    project.write(
        "settings.py",
        text
        + "DATABASES['default'].update(CONN_MAX_AGE=5, CONN_HEALTH_CHECKS=True)\n"
        + "POOLING = {'threads': 99, 'nonsense': 1}\n",
    )
    answer = project.manage("check", code=1).stderr

    for id_ in ("pooling.E002", "pooling.E003", "pooling.W001", "pooling.W005"):
        assert f"({id_})" in answer


def test_replay_reads_without_effect(said: Any) -> None:
    engine = "pooling.backends.postgresql"
    replay = options(replay_reads=True)

    assert said(ENGINE=engine, **replay) == []
    for entry, reason in (
        ({}, "only sessions of PostgreSQL are followed"),
        ({"ENGINE": engine, "ATOMIC_REQUESTS": True}, "reads are in transactions"),
        ({"ENGINE": engine, "AUTOCOMMIT": False}, "reads are in transactions"),
    ):
        ((id_, text),) = said(**replay, **entry)
        assert id_ == "pooling.W002"
        assert "replay_reads has no effect: " in text
        assert text.endswith(reason)


def test_a_budget_needs_a_server_that_counts(said: Any) -> None:
    assert said(ENGINE="pooling.backends.postgresql", **options(budget=5)) == []
    ((id_, text),) = said(**options(budget=5))
    assert id_ == "pooling.E001"
    assert "['budget']: there is none with this engine: a file has no server" in text
