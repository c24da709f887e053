"""Engines of other packages, pooled: by three lines, or by a setting of their own."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.support.projects import HELPERS, THINGS_TABLE, Project

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import PostgresDatabase

THREE_LINES = """
from pooling.backends.postgresql.base import PooledPostgreSQL
from {theirs} import base as theirs

class DatabaseWrapper(PooledPostgreSQL, theirs.DatabaseWrapper):
    {body}
"""
REQUESTS = """
from concurrent.futures import ThreadPoolExecutor
from django.db import close_old_connections

def request(number):
    Thing.objects.create(name=str(number))
    with transaction.atomic():
        assert Thing.objects.filter(name=str(number)).exists()
        found = connection.connection.info.backend_pid
    close_old_connections()
    return found

with ThreadPoolExecutor(8) as threads:
    sessions = set(threads.map(request, range(40)))
stats = get_pool().stats()
assert len(sessions) <= stats.connects <= 2, (sessions, stats)
assert Thing.objects.count() == 40
"""


pytestmark = pytest.mark.skipif(
    find_spec("django_tenants") is None, reason="the other packages are tested on Python 3.11"
)


class EngineProject:
    """A project on PostgreSQL with some engine, and settings of its own."""

    def __init__(self, folder: Path, database: PostgresDatabase, engine: str) -> None:
        database.execute(THINGS_TABLE["postgresql"])
        entry = {**database.entry, "ENGINE": engine}
        entry["OPTIONS"] = {**entry["OPTIONS"], "pool": {"max_size": 2}}
        self._project = Project(folder, {"default": entry})

    def engine(self, name: str, theirs: str, body: str = "pass") -> None:
        """Write the module of three lines."""
        self._project.write(f"{name}/__init__.py", "")
        self._project.write(f"{name}/base.py", THREE_LINES.format(theirs=theirs, body=body))

    def settings(self, text: str) -> None:
        path = self._project.folder / "settings.py"
        path.write_text(path.read_text() + text)

    def run(self, script: str) -> None:
        """Run a script; what the other packages warn of is theirs."""
        setup = "import django; django.setup()\n"
        self._project.python("-c", setup + HELPERS + script, strict=False)


@pytest.mark.parametrize("scope", ["request", "transaction"])
def test_django_prometheus(tmp_path: Path, postgresql: PostgresDatabase, scope: str) -> None:
    """It counts physical connections and each statement, with a cursor class made per call."""
    project = EngineProject(tmp_path, postgresql, "counting")
    project.engine("counting", "django_prometheus.db.backends.postgresql")
    project.settings(f"\nDATABASES['default']['OPTIONS']['pool']['scope'] = '{scope}'\n")
    project.run(
        REQUESTS
        + """
from django_prometheus.db import connections_total, execute_total
assert connections_total.labels("default", "postgresql")._value.get() == stats.connects
assert execute_total.labels("default", "postgresql")._value.get() >= 80
"""
    )


@pytest.mark.parametrize("how", ["module", "setting"])
def test_psqlextra(tmp_path: Path, postgresql: PostgresDatabase, how: str) -> None:
    """Its schema editor and its operations are there; it can be told on what to build, too."""
    engine = "extra" if how == "module" else "psqlextra.backend"
    project = EngineProject(tmp_path, postgresql, engine)
    if how == "module":
        project.engine("extra", "psqlextra.backend")
    else:
        project.settings("\nPOSTGRES_EXTRA_DB_BACKEND_BASE = 'pooling.backends.postgresql'\n")
    project.settings("\nPOSTGRES_EXTRA_AUTO_EXTENSION_SET_UP = False\n")
    project.run(
        REQUESTS
        + """
from psqlextra.backend.operations import PostgresOperations
from psqlextra.backend.schema import PostgresSchemaEditor
assert isinstance(connection.ops, PostgresOperations)
with connection.schema_editor() as editor:
    assert isinstance(editor, PostgresSchemaEditor)
"""
    )


@pytest.mark.parametrize("scope", ["request", "transaction"])
def test_django_tenants(tmp_path: Path, postgresql: PostgresDatabase, scope: str) -> None:
    """A tenant is a schema that each cursor puts into the session's search_path."""
    for schema in ("one", "two"):
        postgresql.execute(
            f"DROP SCHEMA IF EXISTS {schema} CASCADE",
            f"CREATE SCHEMA {schema}",
            THINGS_TABLE["postgresql"].replace("things_thing", f"{schema}.things_thing"),
        )
    project = EngineProject(tmp_path, postgresql, "django_tenants.postgresql_backend")
    project.settings(
        "\nORIGINAL_BACKEND = 'pooling.backends.postgresql'"
        "\nINSTALLED_APPS = ['django.contrib.contenttypes', *INSTALLED_APPS]"
        f"\nDATABASES['default']['OPTIONS']['pool']['scope'] = '{scope}'\n"
    )
    project.run(
        """
from concurrent.futures import ThreadPoolExecutor
from django.db import close_old_connections

def request(number):
    schema = ("one", "two", "public")[number % 3]
    connection.set_schema(schema)
    Thing.objects.create(name=schema)
    with transaction.atomic():
        seen = set(Thing.objects.values_list("name", flat=True))
    close_old_connections()
    return seen == {schema}

with ThreadPoolExecutor(8) as threads:
    assert all(threads.map(request, range(60)))
assert get_pool().stats().connects <= 2
for schema in ("one", "two", "public"):
    connection.set_schema(schema)
    assert Thing.objects.count() == 20
"""
    )


def test_django_cockroachdb(tmp_path: Path, postgresql: PostgresDatabase) -> None:
    """Its wrapper on PostgreSQL, which speaks the same protocol: as far as that goes."""
    project = EngineProject(tmp_path, postgresql, "cockroach")
    project.engine("cockroach", "django_cockroachdb", "cockroachdb_version = (25, 2, 0)")
    project.settings("\nDISABLE_COCKROACHDB_TELEMETRY = True\n")
    project.run(
        REQUESTS
        + """
assert connection.vendor == "cockroachdb"
from django_cockroachdb import creation, features
assert isinstance(connection.features, features.DatabaseFeatures)
assert isinstance(connection.creation, creation.DatabaseCreation)
from pooling.backends.creation import PooledDatabaseCreation
assert isinstance(connection.creation, PooledDatabaseCreation)
"""
    )
