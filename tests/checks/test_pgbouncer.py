"""The checks that ask the server, through a real PgBouncer."""

from __future__ import annotations

import ast
from configparser import ConfigParser
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings as django_settings
from django.db import connections

from pooling.checks import check_servers
from tests.checks.test_options import texts
from tests.docs.examples import REPOSITORY, blocks
from tests.support.pgbouncer import ADMIN, PgBouncer, missing, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.databases import PostgresDatabase

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

NO_CURSORS = {"DISABLE_SERVER_SIDE_CURSORS": True}
UNPOOLED = ["transaction", "statement"]
PREPARE = {"prepare_threshold": 5, "server_side_binding": True}


@pytest.fixture
def checked(
    postgresql: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, str]]:
    """A function that returns what the checks say of an alias behind a PgBouncer, by id."""
    for name in ("WEB_CONCURRENCY", "GUNICORN_CMD_ARGS"):
        monkeypatch.delenv(name, raising=False)

    @contextmanager
    def shop(bouncer: PgBouncer, **changes: Any) -> Iterator[None]:
        with bouncer.database.alias("shop", **changes):
            entries = {"shop": connections.settings["shop"]}
            monkeypatch.setattr(django_settings, "DATABASES", entries)
            yield

    def run(bouncer: PgBouncer, **changes: Any) -> dict[str, str]:
        with shop(bouncer, **changes):
            return dict(texts(check_servers(None, databases=["shop"])))

    return run


@pytest.fixture
def pgbouncer(postgresql: PostgresDatabase) -> Iterator[Callable[..., PgBouncer]]:
    """A function that starts a PgBouncer whose console lets the alias's user read."""
    running: list[PgBouncer] = []

    def start(mode: str, size: int = 20, **settings: object) -> PgBouncer:
        users = {"stats_users": postgresql.entry["USER"], "admin_users": ADMIN, **settings}
        running.append(PgBouncer(postgresql, size, pool_mode=mode, **users))
        return running[-1]

    yield start
    for bouncer in running:
        bouncer.__exit__()


@pytest.mark.parametrize("mode", UNPOOLED)
def test_server_side_cursors_are_warned_of(pgbouncer: Any, checked: Any, mode: str) -> None:
    bouncer = pgbouncer(mode)

    assert f"PgBouncer is in {mode} mode" in checked(bouncer)["pooling.W007"]
    assert "pooling.W007" not in checked(bouncer, **NO_CURSORS)


@pytest.mark.parametrize("mode", UNPOOLED)
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"pool": {"reset": "session"}}, "reset='session'"),
        ({"pool": {"reset": "always"}}, "reset='always'"),
        ({"OPTIONS": {"assume_role": "postgres"}}, "OPTIONS['assume_role']"),
        ({"OPTIONS": PREPARE}, "prepared statements (OPTIONS['prepare_threshold'])"),
    ],
    ids=["reset", "always", "role", "prepared statements"],
)
def test_options_that_need_a_session_are_warned_of(
    pgbouncer: Any, checked: Any, psycopg2: bool, mode: str, changes: dict[str, Any], text: str
) -> None:
    if psycopg2 and changes.get("OPTIONS") is PREPARE:
        pytest.skip("psycopg2 prepares no statements")
    off = {"max_prepared_statements": 0} if version() >= (1, 21) else {}
    found = checked(pgbouncer(mode, **off), **NO_CURSORS, **changes)

    assert found["pooling.W012"].endswith(f"fail or reach other clients: {text}")


@pytest.mark.parametrize("scope", ["request", "transaction"])
def test_transaction_mode_without_them_is_left_in_peace(
    pgbouncer: Any, checked: Any, scope: str
) -> None:
    """`scope="transaction"` is not held against it: its reset runs only where a lease is pinned."""
    bouncer = pgbouncer("transaction")

    assert checked(bouncer, **NO_CURSORS, pool={"scope": scope, "max_size": 10**6}) == {}


def test_the_settings_on_the_page_about_pgbouncer_are_left_in_peace(
    postgresql: PostgresDatabase, checked: Any, settings: Any
) -> None:
    """PgBouncer takes them, and the checks have nothing to say."""
    page = blocks(REPOSITORY / "docs/pgbouncer.md")
    (ini,) = [block.code for block in page if block.language == "ini"]
    shown = ConfigParser()
    shown.read_string(ini)
    (code,) = [block.code for block in page if block.language == "python"]
    entry = ast.literal_eval(code.partition("DATABASES = ")[2])["default"]
    settings.POOLING = {"processes": 40}
    users = {"stats_users": postgresql.entry["USER"]}
    with PgBouncer(postgresql, **{**shown["pgbouncer"], **users}) as bouncer:
        assert bouncer.setting("query_wait_timeout") == "10"
        assert int(bouncer.setting("max_client_conn")) == 40 * entry["OPTIONS"]["pool"]["max_size"]
        cursors = entry["DISABLE_SERVER_SIDE_CURSORS"]
        pool = entry["OPTIONS"]["pool"]
        assert checked(bouncer, DISABLE_SERVER_SIDE_CURSORS=cursors, pool=pool) == {}


def test_statement_mode_is_warned_of(pgbouncer: Any, checked: Any) -> None:
    found = checked(pgbouncer("statement"), **NO_CURSORS)

    assert set(found) == {"pooling.W011"}
    assert "refuses transactions" in found["pooling.W011"]


def test_session_mode_has_to_have_a_connection_for_each_of_the_pools(
    pgbouncer: Any, checked: Any, settings: Any
) -> None:
    settings.POOLING = {"processes": 4}
    bouncer = pgbouncer("session", 20, reserve_pool_size=4)
    found = checked(bouncer, pool={"max_size": 7, "reset": "session"})

    assert set(found) == {"pooling.W013"}
    assert "may open 28 connections" in found["pooling.W013"]
    assert "4 processes, max_size=7" in found["pooling.W013"]
    assert "has 24 for this database" in found["pooling.W013"]
    assert checked(bouncer, pool={"max_size": 6, "reset": "session"}) == {}


def test_a_budget_counts_in_session_mode_and_is_refused_in_the_others(
    pgbouncer: Any, checked: Any, settings: Any
) -> None:
    """Each process may have one connection more than the budget for an instant."""
    settings.POOLING = {"processes": 4}
    bouncer = pgbouncer("session", 20)
    pool = {"max_size": 7, "reset": "session"}
    assert (
        "may open 25 connections" in checked(bouncer, pool={**pool, "budget": 21})["pooling.W013"]
    )
    assert checked(bouncer, pool={**pool, "budget": 16}) == {}

    bouncer.reload(pool_mode="transaction")
    assert set(checked(bouncer, **NO_CURSORS, pool={**pool, "budget": 16})) == {"pooling.E005"}


def test_a_console_that_refuses_the_user_leaves_the_mode_unknown(
    pgbouncer: Any, checked: Any
) -> None:
    bouncer = pgbouncer("transaction", stats_users="")
    found = checked(bouncer, pool={"reset": "session"})

    assert set(found) == {"pooling.W008"}


def test_a_refused_startup_parameter_is_an_error(pgbouncer: Any, checked: Any) -> None:
    bouncer = pgbouncer("transaction", ignore_startup_parameters="extra_float_digits")
    found = checked(bouncer, **NO_CURSORS, OPTIONS={"options": "-c statement_timeout=1000"})

    assert "unsupported startup parameter" in found["pooling.E004"]


def test_a_pgbouncer_that_is_full_is_unreachable_and_no_error(pgbouncer: Any, checked: Any) -> None:
    """It may have room when the site starts."""
    bouncer = pgbouncer("transaction", max_client_conn=1)
    wrapper = bouncer.database.wrapper()
    wrapper.ensure_connection()
    found = checked(bouncer, **NO_CURSORS)

    assert "no more connections allowed" in found["pooling.I001"]
