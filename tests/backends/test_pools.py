"""The contract of both backends: which wrappers share a pool, by what the settings say."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.db import connection as default_connection
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.test import override_settings
from django.utils import timezone

from pooling import get_pool
from tests.support.databases import Database, PostgresDatabase, SqliteDatabase, eventually
from tests.support.mariadb import MariaDatabase

if TYPE_CHECKING:
    from collections.abc import Callable

KARACHI = "Asia/Karachi"  # five hours from UTC, all year


def session_time_zone(wrapper: Any) -> str:
    with wrapper.cursor() as cursor:
        cursor.execute("SHOW TIME ZONE")
        return str(cursor.fetchone()[0])


@pytest.mark.parametrize("option", [True, {"min_size": 0, "max_size": 2}])
def test_djangos_own_pool_is_never_in_use(database: Database, option: Any) -> None:
    """trap 1: a truthy `pool` makes Django skip the session's set-up, or refuse psycopg2."""
    wrapper = database.wrapper(pool=option)
    assert not wrapper.pool
    database.session(wrapper)
    assert not wrapper.pool
    assert wrapper.resolve_pool().stats().leased == 1


@pytest.mark.parametrize("option", [True, {"min_size": 0}, False])
def test_the_session_has_djangos_time_zone(postgresql: PostgresDatabase, option: Any) -> None:
    """trap 1: another package returns datetimes five hours off."""
    with override_settings(TIME_ZONE=KARACHI, USE_TZ=False):
        wrapper, stock = postgresql.wrapper(pool=option), postgresql.stock()
        assert session_time_zone(wrapper) == session_time_zone(stock) == KARACHI
        moment = datetime.datetime(2026, 1, 1, 12, 0)
        with wrapper.cursor() as cursor:
            cursor.execute("CREATE TABLE moment (at timestamptz)")
            cursor.execute("INSERT INTO moment VALUES (%s)", [moment])
            cursor.execute("SELECT at FROM moment")
            mine = cursor.fetchone()
        with stock.cursor() as cursor:
            cursor.execute("SELECT at FROM moment")
            assert mine == cursor.fetchone()
        assert mine[0].replace(tzinfo=None) == moment
        stock.close()
        wrapper.close()
    rows = postgresql.execute("SELECT (at AT TIME ZONE 'UTC')::text FROM moment")
    assert rows == [("2026-01-01 07:00:00",)]


def test_the_databases_own_time_zone_holds(postgresql: PostgresDatabase) -> None:
    """trap 1: `DATABASES[...]["TIME_ZONE"]`, and aware datetimes as with the stock backend."""
    wrapper = postgresql.wrapper(TIME_ZONE=KARACHI)
    stock = postgresql.stock(TIME_ZONE=KARACHI)
    assert session_time_zone(wrapper) == session_time_zone(stock) == KARACHI
    for each in (wrapper, stock):
        with each.cursor() as cursor:
            cursor.execute("SELECT '2026-01-01 00:00:00+00'::timestamptz")
            (moment,) = cursor.fetchone()
            assert moment.utcoffset() == datetime.timedelta(hours=5)
    stock.close()


def test_close_pool_leaves_the_pool_alone(database: Database) -> None:
    """trap 2: Celery's prefork worker calls it after every task."""
    wrapper = database.wrapper()
    session = database.session(wrapper)
    wrapper.close()
    wrapper.close_pool()
    assert len(database.sessions()) == 1
    assert database.session(wrapper) == session


def test_our_options_are_taken_out_of_a_copy(database: Database) -> None:
    """trap 3: unknown keys reach the driver and fail; the settings are Django's."""
    wrapper = database.wrapper(pool={"max_size": 3})
    options = wrapper.settings_dict["OPTIONS"]
    params = wrapper.get_connection_params()
    assert "pool" not in params
    assert wrapper.settings_dict["OPTIONS"] is options
    assert options["pool"]["max_size"] == 3


def test_settings_changed_in_place_lead_to_another_pool(
    database: Database, tmp_path: Path, new_database: Callable[[], str]
) -> None:
    """trap 3: `setup_worker_connection` updates `settings_dict` in place: never cache it."""
    wrapper = database.wrapper()
    database.session(wrapper)
    before = wrapper.resolve_pool()
    wrapper.close()
    if isinstance(database, MariaDatabase):
        name = database.create_other()
    elif database.vendor == "postgresql":
        name = new_database()
    else:
        name = str(tmp_path / "other.sqlite3")
    wrapper.settings_dict.update({**wrapper.settings_dict, "NAME": name})
    assert wrapper.resolve_pool() is not before
    with wrapper.cursor() as cursor:
        if database.vendor == "sqlite":
            assert cursor.execute("PRAGMA database_list").fetchone()[2] == name
        else:
            postgresql = database.vendor == "postgresql"
            cursor.execute("SELECT current_database()" if postgresql else "SELECT DATABASE()")
            assert cursor.fetchone() == (name,)
    wrapper.close()
    wrapper.resolve_pool().close()


def test_aliases_of_one_database_share_a_pool(database: Database) -> None:
    """trap 4: a pool belongs to what identifies a session, not to an alias."""
    with database.alias("one") as one, database.alias("two") as two:
        assert get_pool("one") is get_pool("two")
        session = database.session(one)
        one.close()
        assert database.session(two) == session
        assert len(database.sessions()) == 1


def test_aliases_with_other_pool_options_do_not_share(database: Database) -> None:
    """trap 4: each has the limits that its own settings give it."""
    one, two = database.wrapper(pool={"max_size": 1}), database.wrapper(pool={"max_size": 2})
    assert one.resolve_pool() is not two.resolve_pool()
    named = database.wrapper(pool={"max_size": 1, "name": "chosen"})
    assert named.resolve_pool() is not one.resolve_pool()
    assert named.resolve_pool().name == "chosen"


@pytest.mark.parametrize(
    "changes",
    [
        {"HOST": "localhost"},
        {"USER": "somebody else"},
        {"TIME_ZONE": KARACHI},
        {"AUTOCOMMIT": False},
        {"OPTIONS": {"application_name": "other"}},
        {"OPTIONS": {"assume_role": "somebody"}},
        {"OPTIONS": {"isolation_level": IsolationLevel.SERIALIZABLE}},
        {"OPTIONS": {"sslmode": "prefer"}},
        {"OPTIONS": {"options": "-c search_path=elsewhere"}},
    ],
)
def test_what_changes_a_session_makes_another_pool(
    postgresql: PostgresDatabase, changes: dict[str, Any]
) -> None:
    """trap 4: effective parameters tell pools apart."""
    assert postgresql.wrapper().resolve_pool() is postgresql.wrapper("other").resolve_pool()
    assert postgresql.wrapper(**changes).resolve_pool() is not postgresql.wrapper().resolve_pool()


@pytest.mark.parametrize(
    "changes",
    [
        {"OPTIONS": {"timeout": 1}},
        {"OPTIONS": {"transaction_mode": "IMMEDIATE"}},
        {"OPTIONS": {"init_command": "PRAGMA synchronous=1"}},
        {"AUTOCOMMIT": False},
    ],
)
def test_what_changes_a_sqlite_session_makes_another_pool(
    sqlite: SqliteDatabase, changes: dict[str, Any]
) -> None:
    """trap 4: effective parameters tell pools apart."""
    assert sqlite.wrapper().resolve_pool() is sqlite.wrapper("other").resolve_pool()
    if "transaction_mode" in changes.get("OPTIONS", {}):
        # Django keeps it in the wrapper, which says BEGIN IMMEDIATE: the session is the same.
        return
    assert sqlite.wrapper(**changes).resolve_pool() is not sqlite.wrapper().resolve_pool()


def test_a_path_is_a_path_however_it_is_spelled(
    sqlite: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trap 4: a relative name and a Path object are the same file."""
    path = Path(sqlite.entry["NAME"])
    monkeypatch.chdir(path.parent)
    pools = {
        id(sqlite.wrapper(NAME=name).resolve_pool())
        for name in (str(path), path, path.name, f"../{path.parent.name}/{path.name}")
    }
    assert len(pools) == 1


def test_a_changed_password_is_used_for_the_connections_to_come(
    postgresql: PostgresDatabase, role: str
) -> None:
    """trap 4, scenario 19: a password does not tell sessions apart, so the pool lives on."""
    wrapper = postgresql.wrapper(USER=role, PASSWORD="first")
    session = postgresql.session(wrapper)
    postgresql.execute(f"ALTER ROLE {role} PASSWORD 'second'")
    others = [postgresql.wrapper(USER=role, PASSWORD="second") for _ in range(2)]
    assert others[0].resolve_pool() is wrapper.resolve_pool()
    assert session not in {postgresql.session(other) for other in others}


def test_the_connection_without_a_database_is_never_pooled(postgresql: PostgresDatabase) -> None:
    """trap 4: `NO_DB_ALIAS` is for creating and dropping databases."""
    wrapper = postgresql.wrapper()
    with wrapper._nodb_cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), current_database()")
        pid, name = cursor.fetchone()
        assert name == "postgres"
    eventually(lambda: not postgresql.execute(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"))
    assert postgresql.wrapper(NO_DB_ALIAS).resolve_pool() is None


@pytest.mark.parametrize("seconds", [60, None])
def test_conn_max_age_is_refused_with_the_remedy(database: Database, seconds: int | None) -> None:
    """trap 10: it would pin one connection to each thread."""
    wrapper = database.wrapper(CONN_MAX_AGE=seconds)
    with pytest.raises(ImproperlyConfigured, match="CONN_MAX_AGE") as caught:
        wrapper.ensure_connection()
    assert "remove CONN_MAX_AGE" in str(caught.value)
    assert "DATABASES['default']" in str(caught.value)
    assert database.sessions() == []
    unpooled = database.wrapper(CONN_MAX_AGE=seconds, pool=False)
    assert database.session(unpooled)


def test_pool_errors_are_errors_of_the_driver(database: Database) -> None:
    """trap 11: Django translates subclasses of the driver's PEP 249 classes and nothing else."""
    wrapper = database.wrapper()
    pool = wrapper.resolve_pool()
    pool.close()
    with pytest.raises(wrapper.Database.OperationalError) as caught:
        pool.acquire()
    with pytest.raises(OperationalError), wrapper.wrap_database_errors:
        raise caught.value


@pytest.mark.parametrize(
    "change", [{"TIME_ZONE": KARACHI}, {"USE_TZ": False, "TIME_ZONE": KARACHI}]
)
def test_a_test_that_changes_the_time_zone_gets_sessions_with_it(
    postgresql: PostgresDatabase, change: dict[str, Any]
) -> None:
    """trap 16: `ensure_timezone` leaves no idle session with the old one."""
    with postgresql.alias("one") as one, postgresql.alias("two") as two:
        wrappers = (one, two)
        assert {session_time_zone(wrapper) for wrapper in wrappers} == {"UTC"}
        assert len(postgresql.sessions()) == 2
        two.close()
        with override_settings(**change):
            expected = "UTC" if django_settings.USE_TZ else KARACHI
            for wrapper in wrappers:
                assert session_time_zone(wrapper) == expected
                wrapper.close()
                assert session_time_zone(wrapper) == expected
        for wrapper in wrappers:
            wrapper.close()
            assert session_time_zone(wrapper) == "UTC"


def test_sessions_of_an_old_time_zone_are_closed(postgresql: PostgresDatabase) -> None:
    """trap 16: the server sees them go, those that were idle and those that were leased."""
    with postgresql.alias("pooled") as wrapper:
        other = wrapper.copy()
        old = {postgresql.session(wrapper), postgresql.session(other)}
        other.close()
        with override_settings(USE_TZ=False, TIME_ZONE=KARACHI):
            assert timezone.get_current_timezone() == ZoneInfo(KARACHI)
            wrapper.close()
            eventually(lambda: not old & set(postgresql.sessions()))
            assert postgresql.session(wrapper) not in old


def test_the_default_connection_of_these_tests_is_not_used(left_open: Any) -> None:
    """What the fixtures promise: nothing here opens pytest-django's databases."""
    assert default_connection.connection is left_open
