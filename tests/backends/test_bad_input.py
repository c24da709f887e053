"""What is wrong is said once, clearly and soon, and nothing hangs or is lost."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, OperationalError

from tests.support.databases import Database, PostgresDatabase, checks_connect, in_threads
from tests.support.projects import Project

if TYPE_CHECKING:
    from pathlib import Path

PATH = "DATABASES['default']['OPTIONS']['pool']"
MISTAKES = [
    ({"max_sise": 5}, f"{PATH}: unknown option 'max_sise'; did you mean 'max_size'?"),
    ({"maxsize": 5}, f"{PATH}: unknown option 'maxsize'; did you mean 'max_size'?"),
    ({"max_lifetme": 5}, f"{PATH}: unknown option 'max_lifetme'; did you mean 'max_lifetime'?"),
    ({"colour": 5}, f"{PATH}: unknown option 'colour'; the options are min_size, max_size"),
    ({3: 5}, f"{PATH}: unknown option 3"),
    ({"min_size": 3, "max_size": 2}, f"{PATH}['min_size']: must not exceed max_size, but 3 > 2"),
    ({"min_size": -1}, f"{PATH}['min_size']: must be a whole number of at least 0, not -1"),
    ({"max_size": 0}, f"{PATH}['max_size']: must be a whole number of at least 1, not 0"),
    ({"max_size": -5}, "not -5"),
    ({"max_size": 2.5}, "not 2.5"),
    ({"max_size": "10"}, "not the string '10'"),
    ({"max_size": None}, f"{PATH}['max_size']: must be a whole number of at least 1, not None"),
    ({"max_size": True}, "not the boolean True"),
    ({"timeout": 0}, f"{PATH}['timeout']: must be a number of seconds above 0, or None"),
    ({"timeout": -1}, "not -1"),
    ({"timeout": float("nan")}, f"{PATH}['timeout']: must be a number of seconds above 0"),
    ({"timeout": float("inf")}, "not inf"),
    ({"timeout": "30"}, "not the string '30'"),
    ({"timeout": False}, "not the boolean False"),
    ({"recycle": float("-inf")}, f"{PATH}['recycle']"),
    ({"max_idle": []}, f"{PATH}['max_idle']"),
    ({"max_uses": 0}, f"{PATH}['max_uses']: must be a whole number of at least 1, or None"),
    ({"max_waiting": -1}, f"{PATH}['max_waiting']"),
    ({"ping_after": -0.1}, f"{PATH}['ping_after']"),
    ({"leak_after": 0}, f"{PATH}['leak_after']"),
    (
        {"reset": "rolback"},
        f"{PATH}['reset']: must be 'rollback', 'session', 'always' or the dotted path",
    ),
    ({"reset": "no.such.module"}, f"{PATH}['reset']: cannot import 'no.such.module'"),
    ({"reset": "tests.backends.test_bad_input.PATH"}, "is not a function"),
    ({"reset": None}, f"{PATH}['reset']"),
    ({"name": ""}, f"{PATH}['name']"),
    ({"recycle": 5, "max_lifetime": 5}, "'recycle' and 'max_lifetime' mean the same"),
    ("yes", f"{PATH}: must be a mapping of options, True for the defaults or False"),
    (10, f"{PATH}: must be a mapping"),
    (["max_size"], f"{PATH}: must be a mapping"),
    (None, f"{PATH}: must be a mapping"),
]


@pytest.mark.parametrize(("option", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_wrong_option_is_named_with_its_path(
    database: Database, option: Any, message: str
) -> None:
    wrapper = database.wrapper()
    wrapper.settings_dict["OPTIONS"]["pool"] = option
    for use in (wrapper.ensure_connection, wrapper.resolve_pool):
        with pytest.raises(ImproperlyConfigured) as caught:
            use()
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    assert wrapper.connection is None
    assert database.sessions() == []
    # Once the mistake is mended the same wrapper works.
    wrapper.settings_dict["OPTIONS"]["pool"] = {"min_size": 0}
    assert database.session(wrapper)


def test_all_mistakes_are_told_at_once(database: Database) -> None:
    wrapper = database.wrapper(CONN_MAX_AGE=60)
    wrapper.settings_dict["OPTIONS"]["pool"] = {"max_sise": 1, "min_size": -1, "timeout": "1"}
    with pytest.raises(ImproperlyConfigured) as caught:
        wrapper.ensure_connection()
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    for word in ("CONN_MAX_AGE", "max_sise", "min_size", "timeout"):
        assert sum(word in line.split(":")[0] + line.split(":")[1] for line in lines) == 1


def test_manage_py_check_tells_every_mistake(project: Project, database: Database) -> None:
    """trap 10, too: before the first request."""
    if checks_connect(database):
        pytest.skip("the checks of Django itself connect, and fail by the first mistake")
    settings = (project.folder / "settings.py").read_text()
    project.write(
        "settings.py",
        settings
        + "\nDATABASES['default']['OPTIONS']['pool'] = {'max_sise': 1, 'timeout': -1}\n"
        + "DATABASES['default']['CONN_MAX_AGE'] = 60\n",
    )
    result = project.manage("check", code=1)
    assert result.stderr.count("(pooling.E001)") == 2
    assert result.stderr.count("(pooling.E002)") == 1
    assert "did you mean 'max_size'?" in result.stderr
    assert "remove CONN_MAX_AGE" in result.stderr
    assert "Traceback" not in result.stderr


def test_connections_that_live_on_are_refused(database: Database) -> None:
    """trap 10: also without a limit, which is the same mistake."""
    wrapper = database.wrapper(CONN_MAX_AGE=None)
    with pytest.raises(ImproperlyConfigured, match="CONN_MAX_AGE=None"):
        wrapper.ensure_connection()


def failure(database: Database, **changes: Any) -> str:
    """Return what a user is told, after many threads have been told the same."""

    def attempt() -> str:
        wrapper = database.wrapper(**changes)
        with pytest.raises(OperationalError) as caught:
            wrapper.ensure_connection()
        assert wrapper.connection is None
        return str(caught.value)

    messages = [attempt(), *in_threads(6, attempt)]
    stats = database.wrapper(**changes).resolve_pool().stats()
    assert (stats.size, stats.leased, stats.waiting) == (0, 0, 0)
    # At once: no time-out was involved.
    assert stats.timeouts == 0
    assert len({message.split("port")[0] for message in messages}) == 1
    return messages[0]


# So long that a failure that waits for it shows in the counted time-outs.
LONG = {"timeout": 30}


def test_a_wrong_password_is_told_at_once(postgresql: PostgresDatabase) -> None:
    """scenario 17: the other side of it is below, a server that refuses."""
    message = failure(postgresql, pool=LONG, PASSWORD="not the secret")
    assert "password authentication failed" in message
    assert "not the secret" not in message
    assert postgresql.entry["PASSWORD"] not in message


def test_a_missing_password_is_told_at_once(
    postgresql: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSFILE", "/nowhere")
    assert "no password supplied" in failure(postgresql, pool=LONG, PASSWORD="")


def test_an_unknown_database_is_told_at_once(postgresql: PostgresDatabase) -> None:
    message = failure(postgresql, pool=LONG, NAME="no_such_database")
    assert 'database "no_such_database" does not exist' in message
    assert postgresql.entry["PASSWORD"] not in message


def test_an_unknown_user_is_told_at_once(postgresql: PostgresDatabase) -> None:
    message = failure(postgresql, pool=LONG, USER="no_such_user")
    assert "authentication failed" in message
    assert postgresql.entry["PASSWORD"] not in message


def test_an_unknown_option_of_the_driver_is_told_at_once(postgresql: PostgresDatabase) -> None:
    wrapper = postgresql.wrapper(pool=LONG, OPTIONS={"no_such_option": 1})
    with pytest.raises(DatabaseError, match="no_such_option") as caught:
        wrapper.ensure_connection()
    assert postgresql.entry["PASSWORD"] not in str(caught.value)


def test_a_folder_without_a_file_is_told_at_once(database: Database, tmp_path: Path) -> None:
    if database.vendor == "postgresql":
        message = failure(database, pool=LONG, OPTIONS={"service": "no such service"})
        assert "no such service" in message
    elif database.vendor == "mysql":
        message = failure(database, pool=LONG, NAME="no_such_database")
        assert "Unknown database 'no_such_database'" in message
    else:
        message = failure(database, pool=LONG, NAME=str(tmp_path / "nowhere" / "file"))
        assert "unable to open database file" in message


def test_a_file_that_is_no_database_is_told_at_once(database: Database, tmp_path: Path) -> None:
    if database.vendor == "postgresql":
        message = failure(database, pool=LONG, OPTIONS={"sslmode": "require"})
        assert "SSL" in message
        return
    if database.vendor == "mysql":
        message = failure(database, pool=LONG, USER="no_such_user")
        assert "Access denied for user 'no_such_user'" in message
        return
    path = tmp_path / "text"
    path.write_text("This is not a database. " * 100)
    wrapper = database.wrapper(pool=LONG, NAME=str(path))
    with pytest.raises(DatabaseError, match="not a database"), wrapper.cursor() as cursor:
        cursor.execute("SELECT * FROM sqlite_master")
    wrapper.close()
    assert wrapper.resolve_pool().stats().leased == 0


def test_a_server_that_refuses_is_told_within_the_timeout(postgresql: PostgresDatabase) -> None:
    """scenario 17: nobody listens on a port that is bound and nothing else."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        settings = {"pool": {"timeout": 1}, "PORT": str(bound.getsockname()[1])}
        wrapper = postgresql.wrapper(**settings)

        def attempt() -> str:
            with pytest.raises(OperationalError) as caught:
                postgresql.wrapper(**settings).ensure_connection()
            return str(caught.value)

        for message in [attempt(), *in_threads(8, attempt)]:
            assert "refused" in message
            assert "no connection within 1 s" in message
            assert postgresql.entry["PASSWORD"] not in message
    stats = wrapper.resolve_pool().stats()
    assert (stats.leased, stats.waiting, stats.timeouts) == (0, 0, 9)
    # The callers share the attempts; each for itself would make about seven.
    assert stats.connect_errors <= 30


def test_a_server_that_takes_connections_and_says_nothing_is_bounded(
    postgresql: PostgresDatabase,
) -> None:
    """scenario 18: a frozen server, or a firewall that eats packets; the `timeout` holds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = str(silent.getsockname()[1])
        wrapper = postgresql.wrapper(
            pool={"timeout": 0.2}, PORT=port, OPTIONS={"connect_timeout": 2}
        )
        with pytest.raises(OperationalError, match=r"no connection within 0\.2 s"):
            wrapper.ensure_connection()
    pool = wrapper.resolve_pool()
    pool.close()


def test_passwords_are_in_no_representation_and_in_no_log(
    postgresql: PostgresDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "pooling")
    wrapper = postgresql.wrapper(pool={"timeout": 0.1}, PORT="1")
    with pytest.raises(OperationalError):
        wrapper.ensure_connection()
    pool = wrapper.resolve_pool()
    shown = [repr(pool), repr(pool.stats()), repr(pool.config), repr(wrapper), caplog.text]
    assert caplog.text
    assert postgresql.entry["PASSWORD"] not in json.dumps(shown)


MISSING_DRIVER = """
import sys
sys.modules["psycopg"] = sys.modules["psycopg2"] = None
from django.conf import settings
settings.configure(DATABASES={"default": {
    "ENGINE": "pooling.backends.postgresql", "NAME": "any", "PASSWORD": "secret word",
}}, INSTALLED_APPS=["pooling"])
import django
from django.core.exceptions import ImproperlyConfigured
try:
    django.setup()
    from django.db import connection
    connection.ensure_connection()
except ImproperlyConfigured as error:
    print(error)
"""


def test_a_missing_driver_is_djangos_message(tmp_path: Path) -> None:
    project = Project(tmp_path, {"default": {"ENGINE": "pooling.backends.sqlite3", "NAME": "x"}})
    result = project.python("-c", MISSING_DRIVER)
    assert result.stdout.strip() == "Error loading psycopg2 or psycopg module"
    assert result.stderr == ""
