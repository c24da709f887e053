"""Types of extensions: sessions from before `CREATE EXTENSION` do not know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.postgres import signals
from django.contrib.postgres.operations import CreateExtension
from django.db import connections, migrations, transaction
from django.db.backends.signals import connection_created
from django.db.migrations.state import ProjectState

from pooling import DiscardReason
from tests.support.databases import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import PostgresDatabase

OPTIONS = {"max_size": 3, "timeout": 10}
HSTORE = """CREATE TYPE hstore AS ENUM ('"a"=>"1"')"""
"""A type that looks like hstore to the drivers, for servers that come without extensions."""


class CreateHstore(CreateExtension):
    """Django's operation, for an extension that every server has, with a type named hstore."""

    def __init__(self) -> None:
        super().__init__("plpgsql")

    def extension_exists(self, schema_editor: Any, extension: str) -> bool:
        schema_editor.execute(HSTORE)
        return False


@pytest.fixture(autouse=True)
def _receivers() -> Iterator[None]:
    """What `django.contrib.postgres` does as an installed app."""
    forget()
    connection_created.connect(signals.register_type_handlers)
    yield
    connection_created.disconnect(signals.register_type_handlers)
    forget()


def forget() -> None:
    signals.get_hstore_oids.cache_clear()
    signals.get_citext_oids.cache_clear()


def read(alias: str, sessions: int = 2) -> list[Any]:
    """Read a value of the type in as many leases at once."""
    with connections[alias].cursor() as cursor:
        cursor.execute("""SELECT '"a"=>"1"'::hstore""")
        (value,) = cursor.fetchone()
        others = in_thread(lambda: read(alias, sessions - 1)) if sessions > 1 else []
    connections[alias].close()
    return [value, *others]


def open_sessions(alias: str) -> None:
    """Leave two idle sessions."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")
        in_thread(lambda: connections[alias].cursor().close() or connections[alias].close())
    connections[alias].close()


def migrate(operation: Any, atomic: bool) -> None:
    with connections["pooled"].schema_editor(atomic=atomic) as editor:
        operation.database_forwards("things", editor, ProjectState(), ProjectState())
    connections["pooled"].close()


@pytest.mark.parametrize("atomic", [True, False])
def test_sessions_from_before_an_extension_are_replaced(
    postgresql: PostgresDatabase, atomic: bool
) -> None:
    """Also those of another pool that this process has on the same database."""
    with (
        postgresql.alias("pooled", pool=OPTIONS) as wrapper,
        postgresql.alias("reporting", pool={**OPTIONS, "max_size": 4}),
    ):
        open_sessions("pooled")
        open_sessions("reporting")
        assert wrapper.resolve_pool().stats().idle == 2
        migrate(CreateHstore(), atomic)
        assert read("pooled") == [{"a": "1"}] * 2
        assert read("reporting") == [{"a": "1"}] * 2


def test_the_sessions_are_replaced_after_the_commit(postgresql: PostgresDatabase) -> None:
    """Before it a new session would not find the extension either."""
    with postgresql.alias("pooled", pool=OPTIONS) as wrapper:
        open_sessions("pooled")
        pool = wrapper.resolve_pool()
        with transaction.atomic(using="pooled"):
            with wrapper.schema_editor() as editor:
                editor.execute("CREATE EXTENSION IF NOT EXISTS plpgsql")
            assert pool.stats().idle == 1
        assert pool.stats().idle == 0
        wrapper.close()
        assert pool.stats().discards[DiscardReason.DRAINED] == 2


@pytest.mark.parametrize(
    "operation",
    [migrations.RunSQL("CREATE TABLE extension (id integer)"), migrations.RunSQL("SELECT 1")],
)
def test_other_statements_replace_nothing(postgresql: PostgresDatabase, operation: Any) -> None:
    with postgresql.alias("pooled", pool=OPTIONS) as wrapper:
        open_sessions("pooled")
        migrate(operation, atomic=True)
        assert wrapper.resolve_pool().stats().idle == 2


def test_sqlmigrate_replaces_nothing(postgresql: PostgresDatabase) -> None:
    """It only collects statements."""
    with postgresql.alias("pooled", pool=OPTIONS) as wrapper:
        open_sessions("pooled")
        with wrapper.schema_editor(collect_sql=True) as editor:
            editor.execute("CREATE EXTENSION IF NOT EXISTS plpgsql")
        assert editor.collected_sql
        wrapper.close()
        assert wrapper.resolve_pool().stats().idle == 2


def test_an_extension_is_created_without_autocommit_as_well(postgresql: PostgresDatabase) -> None:
    with postgresql.alias("pooled", pool=OPTIONS, AUTOCOMMIT=False) as wrapper:
        open_sessions("pooled")
        editor = wrapper.SchemaEditorClass(wrapper, atomic=False)
        editor.execute("CREATE EXTENSION IF NOT EXISTS plpgsql")
        wrapper.commit()
        wrapper.close()
        assert wrapper.resolve_pool().stats().discards[DiscardReason.DRAINED] == 2
