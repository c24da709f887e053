"""No password leaves the process: not in an error, a log, a repr, nor in any report.

See docs/security.md. The pages, endpoints and commands have tests of their own, named there; here
are the paths of errors, the objects, and what a whole project writes.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import os
import pprint
import textwrap
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import Error, OperationalError

from pooling import PoolTimeout, fleet
from pooling.core import forks
from pooling.core.config import OPTIONS
from tests.security.conftest import PLAIN, SECRET, assert_clean, causes, frames_of
from tests.support.databases import in_thread
from tests.support.projects import Project

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import PostgresDatabase

KINDS = ("json", "report", "markdown")
"""What `poolbench` writes."""

AS_IN_DJANGO = {"settings_dict", "settings", "conn_params"}
"""Variables that Django's own frames have as well; error reporters know what to hide in them."""


def failing(name: str, postgresql: PostgresDatabase, tmp_path: Path) -> dict[str, Any]:
    """Return settings that hold a secret and with which connecting fails."""
    entry: dict[str, Any] = {"PASSWORD": PLAIN, "pool": {"timeout": 0.3}}
    service, passfile = tmp_path / "service.conf", tmp_path / "passfile"
    service.write_text(f"[mine]\npassword={PLAIN}\nhost=127.0.0.1\nport=1\n")
    passfile.write_text(f"*:*:*:*:{PLAIN}\n")
    passfile.chmod(0o600)
    nothing = {"NAME": "", "USER": "", "PASSWORD": "", "HOST": "", "PORT": ""}
    return {
        "wrong password": entry,
        "wrong password with special characters": {**entry, "PASSWORD": SECRET},
        "refused": {**entry, "HOST": "127.0.0.1", "PORT": "1"},
        "no such database": {**entry, "PASSWORD": postgresql.entry["PASSWORD"], "NAME": "nowhere"},
        "unknown parameter": {**entry, "OPTIONS": {"sslpasword": PLAIN}},
        "bad value": {**entry, "OPTIONS": {"sslmode": "nonsense", "sslpassword": PLAIN}},
        "service file": {**nothing, **_pool(entry), "OPTIONS": _service(service)},
        "broken service file": {**nothing, **_pool(entry), "OPTIONS": _service(passfile)},
        "passfile": {**entry, "PASSWORD": "", "OPTIONS": {"passfile": str(passfile)}},
        "key": {**entry, "OPTIONS": {"sslkey": str(service), "sslpassword": PLAIN}},
    }[name]


def _pool(entry: dict[str, Any]) -> dict[str, Any]:
    return {"pool": entry["pool"]}


def _service(path: Path) -> dict[str, str]:
    os.environ["PGSERVICEFILE"] = str(path)
    return {"service": "mine"}


FAILURES = [
    "wrong password",
    "wrong password with special characters",
    "refused",
    "no such database",
    "unknown parameter",
    "bad value",
    "service file",
    "broken service file",
    "passfile",
    "key",
]


@pytest.mark.parametrize("name", FAILURES)
def test_no_failure_to_connect_tells_the_password(
    name: str,
    postgresql: PostgresDatabase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the texts, the logs, the statistics, and the variables of our frames in a traceback."""
    monkeypatch.setenv("PGSERVICEFILE", "")
    caplog.set_level("DEBUG")
    wrapper = postgresql.wrapper(**failing(name, postgresql, tmp_path))
    pool = wrapper.resolve_pool()
    with pytest.raises((Error, ImproperlyConfigured)) as caught:
        wrapper.ensure_connection()
    for error in causes(caught.value):
        assert_clean(error, *traceback.format_exception(error), error.args)
        for variables in frames_of(error.__traceback__):
            assert_clean(*(value for key, value in variables.items() if key not in AS_IN_DJANGO))
    assert_clean(caplog.text, *(record.__dict__ for record in caplog.records))
    assert_clean(
        pool.stats(), pool.holders(), pool, pprint.pformat(dataclasses.asdict(pool.config))
    )
    assert_clean(json.dumps(fleet.snapshot()))
    pool.close()


def test_no_object_shows_the_password(
    postgresql: PostgresDatabase, planted: str, psycopg2: bool
) -> None:
    """Debuggers, error reporters and `print` take what `repr` gives.

    psycopg2's connection shows its parameters, with the password starred out and no other.
    """
    options = {} if psycopg2 else {"sslpassword": PLAIN}
    wrapper = postgresql.wrapper(
        USER=planted, PASSWORD=PLAIN, OPTIONS=options, pool={"leak_after": 60}
    )
    wrapper.ensure_connection()
    pool, lease = wrapper.resolve_pool(), wrapper._lease
    assert_clean(wrapper, pool, lease, lease._record, pool._driver, pool.config, pool.stats())
    assert_clean(*pool.holders(), pool._state, *vars(pool).values())
    assert_clean(pool._driver.opener(), copy.copy(wrapper), wrapper._cursors, wrapper.connection)
    with wrapper.cursor() as cursor:
        assert_clean(cursor, cursor.cursor)
    assert_clean(*forks.__dict__.values(), wrapper._binding)


def test_a_caller_that_waits_in_vain_tells_who_has_it_and_no_more(
    postgresql: PostgresDatabase, planted: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The error names threads and paths, and the log has the stack: code, and no values."""
    caplog.set_level("DEBUG")
    pool = {"max_size": 1, "timeout": 0.05, "leak_after": 0.01}
    entry = {"USER": planted, "PASSWORD": PLAIN, "pool": pool}
    holder, waiting = postgresql.wrapper(**entry), postgresql.wrapper(**entry)
    postgresql.warm(holder)
    holder.ensure_connection()
    with pytest.raises(OperationalError) as caught:
        waiting.ensure_connection()
    assert isinstance(caught.value.__cause__, PoolTimeout)
    (held,) = holder.resolve_pool().holders()
    assert held.stack
    assert_clean(str(caught.value), held.stack, caplog.text)


BAD_OPTIONS: dict[str, Any] = {
    "an unknown one": {"pasword": PLAIN},
    "one of the driver's": {"password": PLAIN},
    "a URL instead": f"postgres://somebody:{PLAIN}@somewhere/shop",
    "two names for one": {"max_lifetime": 5, "recycle": 6, "password": PLAIN},
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_wrong_options_are_named_without_their_values(
    postgresql: PostgresDatabase, name: str
) -> None:
    """A key that is none of ours may be anything, so what it has as a value is not shown."""
    wrapper = postgresql.wrapper(pool=BAD_OPTIONS[name])
    with pytest.raises(ImproperlyConfigured) as caught:
        wrapper.resolve_pool()
    assert "pool" in str(caught.value)
    assert_clean(str(caught.value))


def test_the_options_that_are_shown_are_the_pools_own(postgresql: PostgresDatabase) -> None:
    """Statistics, the admin's page and the metrics show them; those of the driver are not among."""
    wrapper = postgresql.wrapper(PASSWORD=PLAIN, OPTIONS={"sslpassword": PLAIN})
    config = dataclasses.asdict(wrapper.resolve_pool().config)
    assert tuple(config) == OPTIONS
    assert_clean(config)


SCRIPT = """
import io, json, logging, sys, threading, traceback
from django.conf import settings
from django.core.management import call_command
from django.db import connection, connections
from django.test import Client
from pooling import activity, get_pool

def attempt(function):
    try:
        print(function())
    except BaseException:
        traceback.print_exc(file=sys.stdout)

def query():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return repr(connection), repr(get_pool()), repr(get_pool().stats())

def broken():
    connections["broken"].ensure_connection()

with activity.doing("a job"):
    attempt(query)
    attempt(broken)
    client = Client()
    token = {"HTTP_AUTHORIZATION": "Bearer " + settings.POOLING["metrics_token"]}
    for url in ("/pooling/metrics", "/pooling/metrics.json"):
        for headers in ({}, token):
            attempt(lambda: client.get(url, **headers).content.decode())
    attempt(lambda: call_command("poolstats"))
    attempt(lambda: call_command("poolstats", "--json"))
    attempt(lambda: call_command("poolsize", "--seconds", "0"))
    attempt(lambda: call_command("check", "--database", "default", "--database", "broken"))
    attempt(lambda: [holder for holder in get_pool().holders()])
connection.close()
print("the end")
"""

LOGGING = """
LOGGING = {
    "version": 1,
    "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["out"], "level": "DEBUG"},
}
SECRET_KEY = %(key)r
POOLING = {"metrics_token": %(token)r}
ROOT_URLCONF = "urls"
"""


def test_nothing_that_a_project_writes_has_a_secret(
    postgresql: PostgresDatabase, planted: str, tmp_path: Path
) -> None:
    """All the logs at DEBUG, errors with tracebacks, endpoints, commands: scanned as a whole."""
    postgresql.entry["OPTIONS"] = {"pool": {"min_size": 0, "leak_after": 0.001}}
    entry = postgresql.settings(USER=planted, PASSWORD=PLAIN)
    broken = postgresql.settings(HOST="127.0.0.1", PORT="1", PASSWORD=PLAIN, pool={"timeout": 1.0})
    project = Project(tmp_path / "project", {"default": entry, "broken": broken})
    settings = project.folder / "settings.py"
    planted_settings = LOGGING % {"key": PLAIN + "-key", "token": PLAIN + "-token"}
    settings.write_text(settings.read_text() + textwrap.dedent(planted_settings))
    project.write(
        "urls.py",
        """
        from django.urls import include, path
        urlpatterns = [path("pooling/", include("pooling.urls"))]
        """,
    )
    project.write("script.py", "import django\ndjango.setup()\n" + SCRIPT)
    result = project.python("script.py", strict=False)
    written = result.stdout + result.stderr
    assert "the end" in written
    assert "the last attempt to connect failed" in written
    assert "pooling_connections" in written
    assert "DEBUG" in written or "opened a connection" in written
    assert_clean(written)
    for path in project.folder.rglob("*"):
        if path.is_file() and path.name != "settings.py":
            assert_clean(path.read_bytes().decode("latin-1"))


def test_the_name_of_a_session_tells_host_and_process_only(
    postgresql: PostgresDatabase, planted: str
) -> None:
    """`application_name` is in the server's logs, and other users of the server can read it."""
    wrapper = postgresql.wrapper(USER=planted, PASSWORD=PLAIN)
    session = postgresql.session(wrapper)
    ((name,),) = postgresql.execute(
        f"SELECT application_name FROM pg_stat_activity WHERE pid = {session}"
    )
    assert name.startswith("pooling ")
    assert name.endswith(f":{os.getpid()}")
    assert_clean(name)


def test_another_threads_error_is_as_clean_as_ones_own(postgresql: PostgresDatabase) -> None:
    """The last error is kept, and handed to whoever asks next."""
    entry = {"PASSWORD": PLAIN, "HOST": "127.0.0.1", "PORT": "1", "pool": {"timeout": 0.1}}
    wrapper = postgresql.wrapper(**entry)
    with pytest.raises(OperationalError):
        wrapper.ensure_connection()
    with pytest.raises(OperationalError) as caught:
        in_thread(postgresql.wrapper(**entry).ensure_connection)
    assert_clean(*causes(caught.value), wrapper.resolve_pool().stats().last_error)
    wrapper.resolve_pool().close()


def test_no_result_of_a_benchmark_has_the_password(
    postgresql: PostgresDatabase, planted: str, tmp_path: Path
) -> None:
    """Results are made to be shown around: the three kinds of files, and the screen."""
    postgresql.execute(f"ALTER ROLE {planted} CREATEDB")
    out = io.StringIO()
    files = [tmp_path / f"result.{kind}" for kind in KINDS]
    with postgresql.alias("planted", USER=planted, PASSWORD=PLAIN):
        call_command(
            "poolbench",
            *("--rounds=1", "--iterations=2", "--threads=1", "--pool-size=1", "--workload=connect"),
            *("--contender=pooled", "--database=planted"),
            *(f"--{kind}={file}" for kind, file in zip(KINDS, files, strict=True)),
            stdout=out,
            stderr=out,
        )
    assert "PostgreSQL" in out.getvalue()
    assert_clean(out.getvalue(), *(file.read_text() for file in files))
