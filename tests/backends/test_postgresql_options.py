"""Django's and the driver's own OPTIONS do with a pool what they do without."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections, transaction
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.models import JSONField, Model
from psycopg2.extensions import cursor as psycopg2_cursor

from tests.support.servers import driver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.backends.conftest import Thing
    from tests.support.databases import PostgresDatabase


def value(wrapper: Any, sql: str, *params: Any) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute(sql, params or None)
        row = cursor.fetchone()
        return row and row[0]


@pytest.mark.parametrize(
    "options",
    [
        {"sslmode": "prefer"},
        {"sslmode": "disable", "connect_timeout": 5},
        {"application_name": "the application"},
        {"options": "-c search_path=pg_catalog -c lock_timeout=1234"},
        {"client_encoding": "UTF8", "keepalives": 1, "keepalives_idle": 30},
    ],
)
def test_parameters_of_libpq_reach_it(
    postgresql: PostgresDatabase, options: dict[str, Any]
) -> None:
    """And ours do not."""
    wrapper = postgresql.wrapper(OPTIONS=options)
    for _ in range(2):
        assert value(wrapper, "SELECT 1") == 1
        if "application_name" in options:
            pid = postgresql.session(wrapper)
            rows = postgresql.execute(
                f"SELECT application_name FROM pg_stat_activity WHERE pid = {pid}"
            )
            assert rows == [("the application",)]
        if "options" in options:
            assert value(wrapper, "SHOW lock_timeout") == "1234ms"
        wrapper.close()


def test_a_service_file_names_the_server(
    postgresql: PostgresDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = postgresql.entry
    service = tmp_path / "pg_service.conf"
    service.write_text(
        f"[ours]\nhost={entry['HOST']}\nport={entry['PORT']}\nuser={entry['USER']}\n"
        f"dbname={entry['NAME']}\npassword={entry['PASSWORD']}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    nothing = {"NAME": "", "USER": "", "PASSWORD": "", "HOST": "", "PORT": ""}
    wrapper = postgresql.wrapper(**nothing, OPTIONS={"service": "ours"})
    try:
        session = postgresql.session(wrapper)
        assert session in postgresql.sessions()
        assert value(wrapper, "SELECT current_database()") == entry["NAME"]
        wrapper.close()
        assert postgresql.session(wrapper) == session
    finally:
        wrapper.close()
        wrapper.resolve_pool().close()


@pytest.mark.parametrize("level", [IsolationLevel.SERIALIZABLE, IsolationLevel.REPEATABLE_READ])
def test_the_isolation_level_holds_in_every_lease(
    postgresql: PostgresDatabase, level: IsolationLevel
) -> None:
    """It belongs to the physical connection."""
    with postgresql.alias("pooled", OPTIONS={"isolation_level": level}) as wrapper:
        for _ in range(3):
            with transaction.atomic(using="pooled"):
                shown = value(wrapper, "SHOW transaction_isolation")
            assert shown == level.name.lower().replace("_", " ")
            assert wrapper.isolation_level == level
            wrapper.close()
        assert wrapper.resolve_pool().stats().connects == 1


def test_a_wrong_isolation_level_is_djangos_error(postgresql: PostgresDatabase) -> None:
    wrapper = postgresql.wrapper(OPTIONS={"isolation_level": "no such level"})
    with pytest.raises(Exception, match="Invalid transaction isolation level"):
        wrapper.ensure_connection()
    assert postgresql.sessions() == []


def test_an_assumed_role_is_set_without_a_second_connection(
    postgresql: PostgresDatabase, role: str
) -> None:
    """Django's native pool deadlocks here, since it goes through the wrapper."""
    one = {"pool": {"max_size": 1, "timeout": 10}}
    wrapper = postgresql.wrapper(**one, OPTIONS={"assume_role": role})
    for _ in range(3):
        assert value(wrapper, "SELECT current_user") == role
        wrapper.close()
    assert wrapper.resolve_pool().stats().connects == 1
    plain = postgresql.wrapper(**one)
    assert value(plain, "SELECT current_user") == postgresql.entry["USER"]


def test_server_side_binding_is_what_it_is_without_a_pool(postgresql: PostgresDatabase) -> None:
    """psycopg2 has none, and Django ignores the option there."""
    wrapper = postgresql.wrapper(OPTIONS={"server_side_binding": True})
    stock = postgresql.stock(OPTIONS={"server_side_binding": True})
    for _ in range(2):
        assert value(wrapper, "SELECT %s::text", "bound") == "bound"
        stock.ensure_connection()
        assert wrapper.connection.cursor_factory is stock.connection.cursor_factory
        wrapper.close()
    assert wrapper.resolve_pool().stats().connects == 1


def test_a_cursor_factory_of_the_users_is_used(postgresql: PostgresDatabase) -> None:
    """An option that is no text: it must be part of a pool's key all the same."""
    base = psycopg2_cursor if driver().__name__ == "psycopg2" else driver().ClientCursor

    class Cursor(base):  # type: ignore[misc, valid-type]
        pass

    wrapper = postgresql.wrapper()
    wrapper.settings_dict["OPTIONS"]["cursor_factory"] = Cursor
    for _ in range(2):
        assert value(wrapper, "SELECT 1") == 1
        assert isinstance(wrapper.connection.cursor(), Cursor)
        wrapper.close()
    assert wrapper.resolve_pool() is not postgresql.wrapper().resolve_pool()


def test_json_comes_as_django_wants_it_in_every_lease(postgresql: PostgresDatabase) -> None:
    """JSONB loaders are registered on the physical connection."""

    class Document(Model):
        content = JSONField()

        class Meta:
            app_label = "backends"
            db_table = "document"

        def __str__(self) -> str:
            return "document"

    postgresql.execute("CREATE TABLE document (id serial PRIMARY KEY, content jsonb)")
    content = {"list": [1, 2.5, None], "text": "\u00e4"}
    with postgresql.alias("pooled") as wrapper:
        Document.objects.using("pooled").create(content=content)
        for _ in range(3):
            wrapper.close()
            assert Document.objects.using("pooled").get().content == content
            assert Document.objects.using("pooled").filter(content__list__0=1).count() == 1
        assert wrapper.resolve_pool().stats().connects == 1


def test_server_side_cursors_read_a_large_table(
    postgresql: PostgresDatabase, things: Callable[[PostgresDatabase], type[Thing]]
) -> None:
    """Named cursors need the raw connection."""
    model = things(postgresql)
    postgresql.execute(
        "INSERT INTO backends_thing (name) SELECT 'thing ' || n FROM generate_series(1, 3000) n"
    )
    with postgresql.alias("pooled") as wrapper:
        for _ in range(2):
            names = {thing.name for thing in model.objects.using("pooled").iterator(chunk_size=100)}
            assert len(names) == 3000
            wrapper.close()
    with postgresql.alias("pooled", DISABLE_SERVER_SIDE_CURSORS=True):
        assert len(list(model.objects.using("pooled").iterator(chunk_size=100))) == 3000


def test_connection_info_and_notices_work_on_the_raw_connection(
    postgresql: PostgresDatabase,
) -> None:
    """Third-party code reads `connection.connection.info`."""
    with postgresql.alias("pooled"):
        wrapper = connections["pooled"]
        pid = postgresql.session(wrapper)
        info = wrapper.connection.info
        assert info.backend_pid == pid
        assert info.dbname == postgresql.entry["NAME"]
        assert wrapper.pg_version == info.server_version


def test_psycopg_is_not_imported_in_the_psycopg2_run(psycopg2: bool) -> None:
    """What makes the second run of these tests worth anything."""
    assert driver().__name__ == ("psycopg2" if psycopg2 else "psycopg")
    code = "import pooling, sys; print([m for m in ('django', 'psycopg') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout == "[]\n"


def test_a_backend_with_passwords_that_change_is_asked_for_every_connection(
    postgresql: PostgresDatabase, role: str
) -> None:
    """scenario 19: a subclass that fetches a token is honoured for every connection."""
    tokens = ["first"]

    class TokenWrapper(type(postgresql.wrapper())):  # type: ignore[misc]
        def get_connection_params(self) -> dict[str, Any]:
            return {**super().get_connection_params(), "password": tokens[0]}

    wrappers = [TokenWrapper(postgresql.settings(USER=role), "own") for _ in range(3)]
    pool = wrappers[0].resolve_pool()
    assert pool is not postgresql.wrapper(USER=role).resolve_pool()
    for wrapper, tokens[0] in zip(wrappers, ["first", "second", "third"], strict=True):
        postgresql.execute(f"ALTER ROLE {role} PASSWORD '{tokens[0]}'")
        assert value(wrapper, "SELECT current_user") == role
        assert wrapper.resolve_pool() is pool
    assert pool.stats().connects == 3
    for wrapper in wrappers:
        wrapper.close()
