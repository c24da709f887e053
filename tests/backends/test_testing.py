"""Test runners, the real ones, next to a production database that they must not touch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.support.databases import Database, PostgresDatabase, SqliteDatabase, eventually
from tests.support.projects import THINGS_TABLE, Project
from tests.support.servers import execute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import DatabaseSettings

TESTS = """
import contextlib
import threading
from django.conf import settings
from django.db import connection, connections, transaction
from django.test import LiveServerTestCase, TestCase, TransactionTestCase
from pooling import get_pool
from things.models import Thing

def name():
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT current_database()")
            return cursor.fetchone()[0]
        return cursor.execute("PRAGMA database_list").fetchone()[2]

class Base:
    def test_where_we_are(self):
        assert name() != settings.PRODUCTION
        assert Thing.objects.count() == 0
        Thing.objects.create(name="by a test")

    def test_again(self):
        assert Thing.objects.count() == 0
        Thing.objects.create(name="by a test")

    def test_the_view(self):
        assert self.client.get("/").json() == {"things": 0}

class One(Base, TestCase): pass
class Two(Base, TransactionTestCase): pass
class Three(Base, TransactionTestCase): pass
class Four(Base, TestCase): pass

class Threads(TransactionTestCase):
    def test_threads(self):
        def work():
            # Connections to one database in memory share a cache, whose table locks do not wait.
            with writing if in_memory else contextlib.nullcontext():
                Thing.objects.create(name="by a thread")
            names.append(name())
            connections["default"].close()
        names = []
        writing = threading.Lock()
        in_memory = connection.vendor == "sqlite" and connection.is_in_memory_db()
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert names == [name()] * 3
        assert Thing.objects.count() == 3

class Live(LiveServerTestCase):
    def test_a_live_server(self):
        import json, urllib.request
        Thing.objects.create(name="one")
        for _ in range(3):
            with urllib.request.urlopen(self.live_server_url) as response:
                assert json.load(response) == {"things": 1}
"""
READY = """
from things.models import Thing
import warnings
with warnings.catch_warnings():
    # Django says by itself that this is no good idea.
    warnings.simplefilter("ignore", RuntimeWarning)
    from django.db import OperationalError, ProgrammingError
    try:
        print("ready: ", Thing.objects.count())
    except (OperationalError, ProgrammingError):
        print("ready: no table")
"""


@pytest.fixture
def production(
    tmp_path: Path,
    postgresql_url: str,
    database_settings: DatabaseSettings,
) -> Iterator[Any]:
    """A project with a production database, made for either backend by calling this."""
    made: list[str] = []

    def make(vendor: str, **options: Any) -> tuple[Project, Any]:
        ready = options.pop("ready", "pass")
        if vendor == "postgresql":
            name = f"production_{os.urandom(4).hex()}"
            execute(postgresql_url, f"CREATE DATABASE {name}")
            made.append(name)
            entry = database_settings("pooling.backends.postgresql", NAME=name)
        else:
            entry = database_settings(
                "pooling.backends.sqlite3", NAME=str(tmp_path / "production.sqlite3")
            )
            entry["TEST"]["NAME"] = str(tmp_path / "test.sqlite3")
        entry["OPTIONS"] = {**entry["OPTIONS"], "pool": {"min_size": 2}, **options}
        project = Project(tmp_path / "project", {"default": entry}, ready=ready)
        project.write("things/tests.py", TESTS)
        insert = "INSERT INTO things_thing(name) VALUES ('production')"
        statements(entry, THINGS_TABLE[vendor], insert)
        return project, entry

    yield make
    for name in made:
        left = execute(
            postgresql_url,
            f"SELECT datname FROM pg_database WHERE datname ~ '^(test_)?{name}(_[0-9]+)?$'",
        )
        for (database,) in left:
            execute(postgresql_url, f"DROP DATABASE {database} WITH (FORCE)")


def statements(entry: dict[str, Any], *statements: str) -> list[tuple[Any, ...]]:
    """Run statements in the production database, past Django; return the last one's rows."""
    if "sqlite" in entry["ENGINE"]:
        database: Any = SqliteDatabase(entry)
    else:
        url = urlsplit(os.environ["TEST_POSTGRESQL_URL"])._replace(path=f"/{entry['NAME']}")
        database = PostgresDatabase(entry, url.geturl())
    return database.execute(*statements)


def things(entry: dict[str, Any]) -> str:
    """Return what is in the production database."""
    return ",".join(name for (name,) in statements(entry, "SELECT name FROM things_thing"))


def databases_left(entry: dict[str, Any], postgresql_url: str) -> list[str]:
    if "sqlite" in entry["ENGINE"]:
        return sorted(path.name for path in Path(entry["NAME"]).parent.glob("test*"))
    rows = execute(
        postgresql_url,
        f"SELECT datname FROM pg_database WHERE datname LIKE 'test_{entry['NAME']}%'",
    )
    return sorted(name for (name,) in rows)


VENDORS = pytest.mark.parametrize("vendor", ["postgresql", "sqlite"])


@VENDORS
@pytest.mark.parametrize("parallel", ["1", "2"])
def test_manage_py_test(production: Any, postgresql_url: str, vendor: str, parallel: str) -> None:
    """trap 23, scenario 50, scenario 51: databases are made, copied and dropped.

    No session of ours is in the way.
    """
    project, entry = production(vendor)
    result = project.manage("test", "--parallel", parallel, "--noinput")
    assert "Ran 14 tests" in result.stderr
    assert "OK" in result.stderr
    if parallel == "2":
        assert result.stderr.count("Cloning test database") == 2
        assert result.stderr.count("Destroying test database") == 3
    assert databases_left(entry, postgresql_url) == []
    assert things(entry) == "production"


@VENDORS
@pytest.mark.parametrize("parallel", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_manage_py_test_keepdb(
    production: Any, postgresql_url: str, vendor: str, parallel: str
) -> None:
    """trap 23, scenario 51: the second run finds what the first has kept."""
    project, entry = production(vendor)
    for _ in range(2):
        result = project.manage("test", "--keepdb", "--parallel", parallel, "--noinput")
        assert "OK" in result.stderr
        assert databases_left(entry, postgresql_url) != []
    assert "Using existing test database" in result.stderr
    assert things(entry) == "production"


@VENDORS
@pytest.mark.parametrize("parallel", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_query_in_ready_does_not_lead_tests_to_production(
    production: Any, vendor: str, parallel: str
) -> None:
    """trap 4, scenario 49: the tests never see the production database.

    Django's own pool keeps the production sessions and runs the tests on them.
    """
    project, entry = production(vendor, ready=READY)
    result = project.manage("test", "--parallel", parallel, "--noinput")
    assert "ready:  1" in result.stdout
    assert "OK" in result.stderr
    assert things(entry) == "production"


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_parallel_tests_on_sqlite_files(production: Any, postgresql_url: str, mode: str) -> None:
    """trap 26, scenario 50: clones are copies of the file, in WAL mode as well."""
    project, entry = production("sqlite", init_command=f"PRAGMA journal_mode={mode};")
    result = project.manage("test", "--parallel", "2", "--noinput")
    assert "OK" in result.stderr
    assert [name for name in databases_left(entry, postgresql_url) if "-" not in name] == []
    assert things(entry) == "production"


def test_manage_py_test_on_sqlite_in_memory(production: Any) -> None:
    """trap 25, scenario 51: the default test database.

    Live server and threads share the one connection.
    """
    project, entry = production("sqlite")
    del entry["TEST"]
    settings = (project.folder / "settings.py").read_text()
    project.write("settings.py", settings + "\nDATABASES['default'].pop('TEST')\n")
    result = project.manage("test", "--parallel", "2", "--noinput")
    assert "OK" in result.stderr
    assert things(entry) == "production"


@VENDORS
def test_pytest_django(
    production: Any, postgresql_url: str, vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trap 23, scenario 51: with its own ways of making, keeping and using databases."""
    project, entry = production(vendor, ready=READY)
    # Without the other plugins that are installed here: importing them takes longer than the tests.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    options = "-p pytest_django.plugin -p no:cacheprovider --strict-markers"
    project.write("pytest.ini", f"[pytest]\naddopts = {options}\n")
    project.write("test_all.py", "from things.tests import *\n")
    code = "import pytest, sys; sys.exit(pytest.main(['-q', '--create-db', 'test_all.py']))"
    result = project.python("-c", code)
    assert "14 passed" in result.stdout
    assert databases_left(entry, postgresql_url) == []
    for _ in range(2):
        result = project.python("-c", code.replace("create", "reuse"))
        assert "14 passed" in result.stdout
    assert databases_left(entry, postgresql_url) != []
    assert things(entry) == "production"


MIRROR_TESTS = """
from django.db import connections
from django.test import TransactionTestCase
from pooling import get_pool
from things.models import Thing

class Mirrored(TransactionTestCase):
    databases = {"default", "replica"}

    def test_the_replica_shows_what_the_primary_has(self):
        Thing.objects.using("default").create(name="one")
        self.assertEqual(Thing.objects.using("replica").get().name, "one")
        self.assertEqual(
            connections["replica"].settings_dict["NAME"],
            connections["default"].settings_dict["NAME"],
        )
"""


@VENDORS
@pytest.mark.parametrize("engine", ["pooling.backends", "django.db.backends"])
def test_a_mirror_is_a_mirror(
    production: Any, postgresql_url: str, vendor: str, engine: str
) -> None:
    """trap 5: two engines of one database look like two test databases; MIRROR is the answer."""
    project, entry = production(vendor)
    replica = {**entry, "ENGINE": entry["ENGINE"].replace("pooling.backends", engine)}
    replica["TEST"] = {**entry["TEST"], "MIRROR": "default"}
    if engine.startswith("django"):
        replica["OPTIONS"] = {k: v for k, v in entry["OPTIONS"].items() if k != "pool"}
    project = Project(project.folder, {"default": entry, "replica": replica})
    project.write("things/tests.py", MIRROR_TESTS)
    result = project.manage("test", "--noinput")
    assert "Ran 1 test" in result.stderr
    assert "OK" in result.stderr
    assert databases_left(entry, postgresql_url) == []
    assert things(entry) == "production"


def test_what_a_live_thread_holds_is_closed_when_it_comes_back(database: Database) -> None:
    """trap 24: it cannot be reclaimed, so it is marked."""
    wrapper, holder = database.wrapper(), database.wrapper()
    session = database.session(holder)
    raw = holder.connection
    database.session(wrapper)
    wrapper.creation._close_pools(database.entry["NAME"])
    # The holder goes on; nobody closes a connection under a thread that uses it.
    assert len(database.sessions()) == 1
    assert database.session(holder) == session
    holder.close()
    eventually(lambda: not database.sessions())
    database.session(holder)
    assert holder.connection is not raw


def test_a_test_database_is_dropped_under_idle_sessions_of_many_threads(
    postgresql: PostgresDatabase,
) -> None:
    """trap 23: `DROP DATABASE` fails as long as there is one session."""
    with postgresql.alias("pooled", pool={"min_size": 3}) as wrapper:
        production_session = postgresql.session(wrapper)
        name = wrapper.creation.create_test_db(verbosity=0, autoclobber=True)
        try:
            assert name != postgresql.entry["NAME"]
            # The production database has no session of ours any more.
            eventually(lambda: production_session not in postgresql.sessions())
            assert postgresql.sessions() == []
            others = [wrapper.copy() for _ in range(3)]
            for other in others:
                other.ensure_connection()
            for other in others:
                other.close()
            wrapper.ensure_connection()
            query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"
            assert postgresql.execute(query)[0][0] >= 3
        finally:
            wrapper.creation.destroy_test_db(postgresql.entry["NAME"], verbosity=0)
        assert postgresql.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'") == []
        assert wrapper.settings_dict["NAME"] == postgresql.entry["NAME"]
        assert postgresql.session(wrapper) in postgresql.sessions()


def test_a_clone_is_made_from_a_template_without_sessions(postgresql: PostgresDatabase) -> None:
    """trap 23: `CREATE DATABASE ... TEMPLATE` fails as long as there is one session."""
    with postgresql.alias("pooled", pool={"min_size": 2}) as wrapper:
        name = wrapper.creation.create_test_db(verbosity=0, autoclobber=True)
        try:
            with wrapper.cursor() as cursor:
                cursor.execute("CREATE TABLE note (text text)")
            wrapper.creation.clone_test_db("1", verbosity=0, autoclobber=True)
            wrapper.ensure_connection()
            wrapper.creation.setup_worker_connection(1)
            with wrapper.cursor() as cursor:
                cursor.execute("SELECT current_database()")
                assert cursor.fetchone() == (f"{name}_1",)
                cursor.execute("SELECT count(*) FROM note")
                assert cursor.fetchone() == (0,)
            rows = postgresql.execute(
                f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}' AND backend_type = "
                "'client backend'"
            )
            assert rows == []
        finally:
            wrapper.settings_dict["NAME"] = name
            wrapper.creation.destroy_test_db(verbosity=0, suffix="1")
            wrapper.creation.destroy_test_db(postgresql.entry["NAME"], verbosity=0)
