"""What strangers may choose stays text: in logs, reports, pages, the cache, and in SQL.

See docs/security.md. A request's path, names, a server's words and what lies in a shared cache are
data; none of them becomes a line of a log, markup, a label, an option or code.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.test import RequestFactory
from django.urls import reverse
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from pooling import activity, fleet
from pooling.admin import context
from pooling.fleet.cache_store import INDEX_PARTS, CacheStore
from pooling.fleet.commands import CommandLog
from pooling.fleet.options import fleet_options
from pooling.fleet.publisher import Publisher
from pooling.metrics.exposition import render
from pooling.metrics.families import families
from tests.security.conftest import REPOSITORY
from tests.support.databases import eventually, in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from django.test import Client

    from tests.support.databases import Database, PostgresDatabase, SqliteDatabase

LINES = 'one\nCRITICAL root: forged\r\n"}\x1b[31m\u2028\x00</script><script>alert(1)</script>'


@pytest.fixture
def shared_cache(settings: Any, tmp_path: Path) -> Any:
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": str(tmp_path / "cache")}}
    return caches["default"]


def test_a_path_is_one_line_of_a_log_and_bounded(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """A stranger chooses it; it comes up in errors and logs that others read."""
    caplog.set_level(logging.DEBUG)
    environ = RequestFactory().get("/").environ
    environ["PATH_INFO"] = f"/{LINES}/" + "x" * 10_000
    environ["QUERY_STRING"] = "token=abc"
    told = activity.request_of(environ)
    assert told.isprintable()
    assert len(told) <= activity.MAX_LENGTH
    assert "token" not in told
    wrapper = database.wrapper(pool={"max_size": 1, "timeout": 0.05})
    database.warm(wrapper)
    with activity.doing(told):
        wrapper.ensure_connection()
    with pytest.raises(OperationalError) as caught:
        in_thread(database.wrapper(pool={"max_size": 1, "timeout": 0.05}).ensure_connection)
    assert "GET /one" in str(caught.value)
    assert str(caught.value).isprintable()


def test_what_code_says_it_does_is_one_line_as_well() -> None:
    with activity.doing(LINES * 100):
        told = activity.current()
    assert told is not None
    assert told.isprintable()
    assert len(told) <= activity.MAX_LENGTH


def test_a_pools_name_is_quoted_in_logs(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the project's own choice; a line break in it is no second entry all the same."""
    caplog.set_level(logging.DEBUG, "pooling")
    wrapper = database.wrapper(pool={"name": LINES})
    wrapper.ensure_connection()
    wrapper.close()
    wrapper.resolve_pool().close()  # which waits for the workers
    assert caplog.records
    for record in caplog.records:
        assert "\n" not in record.getMessage()
        assert "\x1b" not in record.getMessage()


def _snapshot(name: str) -> dict[str, Any]:
    snapshot = json.loads(json.dumps(fleet.snapshot()))
    snapshot.update(id="other", host=name, pid=1, command=name, time=time.time())
    for pool in snapshot["pools"]:
        pool.update(name=name, database=name, user=name, host=name, aliases=[name])
        pool["stats"]["last_error"] = name
        texts = dict.fromkeys(("id", "thread", "note", "pinned", "stack"), name)
        pool["holders"] = [{**texts, "seconds": 1.0}]
    return snapshot  # type: ignore[no-any-return]


def test_labels_of_metrics_stay_labels(sqlite: SqliteDatabase) -> None:
    """Names from other processes are quoted: no line of the answer is somebody else's."""
    sqlite.session(sqlite.wrapper())
    text = render(families([_snapshot(LINES)]), openmetrics=False)
    assert "forged" in text
    for line in text.split("\n"):
        assert line == "" or re.match(r"# (HELP|TYPE) pooling_|pooling_\w+\{", line), line
    labels = [sample.labels for family in read_prometheus(text) for sample in family.samples]
    assert {label["pool"] for label in labels} == {LINES}


def test_what_lies_in_the_cache_is_shown_as_text(
    sqlite: SqliteDatabase, shared_cache: Any, admin_client: Client, settings: Any
) -> None:
    """Others may be able to write to it: names, notes and stacks are no markup on the page."""
    settings.POOLING = {"publish_every": 60.0}  # so that nobody is taken to be gone
    sqlite.session(sqlite.wrapper())
    CacheStore(fleet_options()).publish(_snapshot(LINES))

    def page(name: str) -> str | None:
        """Return a page as soon as the cache has answered in the time that the page gives it."""
        answer = admin_client.get(reverse(f"admin:pooling_connectionpool_{name}"))
        assert answer.status_code == 200
        html = answer.content.decode()
        return html if "forged" in html else None

    for name in ("changelist", "live"):
        assert "<script>alert" not in eventually(lambda name=name: page(name))


RUBBISH: list[Any] = [
    "not JSON",
    "[]",
    "null",
    "7",
    '{"id": 1}',
    '{"time": "yesterday"}',
    b"\x80\x04\x95",
    {"a": "dictionary"},
    '{"id": "x", "time": 1.0}',
    '{"id": "x", "time": 1.0, "host": "h", "pid": 1, "pools": [7]}',
    '{"time": 1e999, "id": "x", "pools": {}}',
    "[" * 100_000,
]


@pytest.mark.parametrize("rubbish", RUBBISH, ids=lambda rubbish: repr(rubbish)[:20])
def test_rubbish_in_the_cache_is_not_the_end_of_the_process(
    sqlite: SqliteDatabase, shared_cache: Any, rubbish: Any
) -> None:
    """Who can write there can forge and hide processes, as the documentation says, and no more."""
    sqlite.session(sqlite.wrapper())
    board = CacheStore(fleet_options())
    parts = [f"index:{number}" for number in range(INDEX_PARTS)]
    for name in (*parts, "commands"):
        shared_cache.set(board._key(name), rubbish)
    Publisher()._exchange()
    assert fleet.read_all().processes[0]["pid"] == os.getpid()
    shared_cache.set(board._key("index", "0"), json.dumps({"a": time.time()}))
    shared_cache.set(board._key("process", "a"), rubbish)
    seen = fleet.read_all()
    assert [process["pid"] for process in seen.processes] == [os.getpid()]
    assert context.page(seen)["pools"]
    assert render(families(seen.processes), openmetrics=True)


def test_an_order_can_do_no_more_than_the_buttons(sqlite: SqliteDatabase) -> None:
    """No other method of a pool, and no other option: whatever the cache says."""
    wrapper = sqlite.wrapper(pool={"name": "ordered"})
    wrapper.ensure_connection()
    pool = wrapper.resolve_pool()
    before = pool.config
    order = {"id": "x", "pool": "ordered", "process": None, "configured": None, "time": 0.0}
    order |= {"lease": pool.holders()[0].id, "arguments": {}}
    log = CommandLog()
    for number, action in enumerate(("close", "release", "__init__", "config", "_give_back", "")):
        log.execute({**order, "id": str(number), "action": action})
    assert not pool.closed
    assert pool.config == before
    command = {**order, "action": "resize", "arguments": {"reset": "os.abort"}}
    command["time"] = time.time()
    with pytest.raises((TypeError, ValueError)):
        log.execute(command)
    assert pool.config == before


@pytest.mark.parametrize(
    "reset", ["os.system", "builtins.exec", "no.such.module", "pooling.__doc__", "..", "a b.c"]
)
def test_a_dotted_path_comes_from_the_settings_and_is_checked_when_they_are(
    sqlite: SqliteDatabase, reset: str
) -> None:
    """What is no function is refused; what is one, is the project's own choice of code to run."""
    wrapper = sqlite.wrapper(pool={"reset": reset})
    if reset in ("os.system", "builtins.exec"):
        wrapper.resolve_pool()
    else:
        with pytest.raises(ImproperlyConfigured, match="reset"):
            wrapper.resolve_pool()


HOSTILE = "x'; DROP TABLE canary; --\\\"%s{0}"


def test_names_from_the_settings_are_no_sql(postgresql: PostgresDatabase) -> None:
    """Whatever the pool itself sends to restore a session: time zone, prepared statements."""
    from pooling.backends.postgresql import session_tracking

    postgresql.execute("CREATE TABLE canary (id integer)")
    wrapper = postgresql.wrapper(
        pool={"max_size": 1, "reset": "session"}, OPTIONS={"application_name": HOSTILE[:40]}
    )
    name = HOSTILE.replace('"', '""').replace("%", "%%")
    with wrapper.cursor() as cursor:
        cursor.execute(f'PREPARE "{name}" AS SELECT 1', ())
    wrapper.close()
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        assert cursor.fetchone() == (0,)
        cursor.execute("SHOW application_name")
        assert "DROP TABLE" in cursor.fetchone()[0]
    assert wrapper.resolve_pool().stats().connects == 1
    zone = session_tracking.restoring("UTC'; DROP TABLE canary; --")
    with pytest.raises(Exception, match='invalid value for parameter "TimeZone"'):
        postgresql.execute(zone)
    assert postgresql.execute("SELECT count(*) FROM canary") == [(0,)]


def test_names_of_attached_databases_are_no_sql(sqlite: SqliteDatabase, tmp_path: Path) -> None:
    sqlite.execute("CREATE TABLE canary (id integer)")
    wrapper = sqlite.wrapper()
    wrapper.ensure_connection()
    raw = wrapper.connection
    for name in ('x"; DROP TABLE canary; --', "x' OR 1", "é\u2028", 'a""b'):
        quoted = name.replace('"', '""')
        raw.execute(f"ATTACH DATABASE '{tmp_path / 'other'}' AS \"{quoted}\"")
        wrapper.close()
        wrapper.ensure_connection()
        assert wrapper.connection is raw
        schemas = [schema for _, schema, _ in raw.execute("PRAGMA database_list")]
        assert name not in schemas
    assert raw.execute("SELECT count(*) FROM canary").fetchone() == (0,)


DANGEROUS = re.compile(
    r"\b(?:pickle|marshal|shelve)\b|\b(?:eval|exec)\(|os\.system|shell=True|mark_safe|SafeString"
    r"|yaml\.load|tempfile\.mktemp|\|safe\b|autoescape off|@csrf_exempt"
)
KNOWN = {
    "static/pooling/uplot/uPlot.iife.min.js": "exec(",  # of a regular expression
    "core/errors.py": "pickle",  # a comment on what a pickled error becomes
    "backends/postgresql/sql_classifier.py": "SafeString",  # the name of a class of parameters
}


def test_the_package_uses_none_of_the_dangerous_tools() -> None:
    """No pickles, no code from text, no shell, no markup that is declared safe, no CSRF exempt."""
    found = {}
    for path in (REPOSITORY / "pooling").rglob("*"):
        if path.suffix in (".py", ".html", ".js"):
            hits = set(DANGEROUS.findall(path.read_text()))
            name = path.relative_to(REPOSITORY / "pooling").as_posix()
            if hits - {KNOWN.get(name)}:
                found[name] = hits
    assert found == {}


def test_dependencies_have_lower_and_upper_bounds() -> None:
    """A range: a version that is too old or of the next, unknown generation is not installed."""
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    ranges = [each for each in wanted if not each.startswith("django-pooling[")]
    assert len(ranges) > 10
    for each in ranges:
        package = each.partition(";")[0]
        assert re.fullmatch(r"[\w.\-]+(?:\[[\w,\-]+\])?>=[\d.]+,<[\d.]+", package), each
