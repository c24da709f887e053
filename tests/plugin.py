"""Pytest plugin: one PostgreSQL for a test session, in place before Django reads its settings.

Loaded by `-p tests.plugin`. The environment decides:

- `TEST_POSTGRESQL_URL` names a server to use (its user must be allowed to create databases);
  without it a private one is started and removed at the end. The workers of pytest-xdist share the
  server of the process that started them.
- `TEST_DRIVER=psycopg2` runs the PostgreSQL tests on psycopg2 instead of psycopg 3.
- `TEST_COUNTS` names a file to which a line "passed failed skipped" is added, for the Makefile.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pooling.bench.private_postgres import PostgresUnavailableError
from pooling.bench.private_server import ServerError
from tests.support.postgres import PrivatePostgres
from tests.support.servers import choose_driver, driver, execute

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

# Taken out of the environment, so that sessions that tests start do not count.
TEST_COUNTS = os.environ.pop("TEST_COUNTS", None)
MAX_WORKERS = 4
"""The server has 100 connections, of which some tests use 30."""


@pytest.hookimpl(tryfirst=True)  # before pytest-django, which reads the settings in the same hook
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    if early_config.known_args_namespace.help or early_config.known_args_namespace.version:
        return
    try:
        choose_driver()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    _set_for_session(early_config, "TEST_FOLDER", _make_folder(early_config))
    if not os.environ.get("TEST_POSTGRESQL_URL"):
        server = PrivatePostgres()
        try:
            server.start()
        except (PostgresUnavailableError, ServerError) as error:
            raise pytest.UsageError(str(error)) from error
        early_config.add_cleanup(server.close)
        _set_for_session(early_config, "TEST_POSTGRESQL_URL", server.url)


@pytest.hookimpl(optionalhook=True, tryfirst=True)  # the first answer counts, and xdist has its own
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` starts: two for each processor this process may use.

    Half of the time tests wait: for a process that starts, a browser or a server.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(2 * (usable or 1), MAX_WORKERS)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that use SQLite or MariaDB alone, whatever the PostgreSQL driver is."""
    fixtures = set(getattr(item, "fixturenames", ()))
    callspec = getattr(item, "callspec", None)
    chosen = {callspec.params.get(name) for name in ("database", "server")} if callspec else set()
    if chosen & {"sqlite", "mariadb"} or (
        "sqlite" in fixtures and not fixtures & {"postgresql", "database"}
    ):
        item.add_marker("sqlite")
    of_another_engine = item.path.name.startswith(("test_mysql", "test_sqlite"))
    if fixtures & {"mariadb", "mariadb_server"} or of_another_engine:
        item.add_marker("sqlite")


def pytest_report_header() -> str:
    import django

    module = driver()
    try:
        [(server,)] = execute(os.environ["TEST_POSTGRESQL_URL"], "SHOW server_version")
    except module.OperationalError as error:
        raise pytest.UsageError(f"TEST_POSTGRESQL_URL: {error}") from None
    return (
        f"pooling: Python {platform.python_version()}, Django {django.get_version()}, "
        f"{module.__name__} {module.__version__.split()[0]}, PostgreSQL {server.split()[0]}"
    )


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    if TEST_COUNTS:
        number = {key: len(reports) for key, reports in terminalreporter.stats.items()}
        failed = number.get("failed", 0) + number.get("error", 0)
        with Path(TEST_COUNTS).open("a") as counts:
            counts.write(f"{number.get('passed', 0)} {failed} {number.get('skipped', 0)} 0\n")


def _make_folder(config: pytest.Config) -> str:
    """Make the folder for the databases of `tests.settings`, removed at the end of the
    session."""
    folder = Path(tempfile.mkdtemp(prefix="pooling-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    return str(folder)


def _set_for_session(config: pytest.Config, name: str, value: str) -> None:
    """Set an environment variable that child processes see too, until the session ends."""
    before = os.environ.get(name)
    os.environ[name] = value

    def restore() -> None:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before

    config.add_cleanup(restore)
