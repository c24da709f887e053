"""A part of Django's own test suite, on the stock engines and on the pooled ones."""

from __future__ import annotations

import pytest

from pooling.core.config import SCOPES
from tests.django_suite.__main__ import main
from tests.support.mariadb import missing
from tests.support.servers import DRIVERS

pytestmark = pytest.mark.slow

LABELS = (
    *("backends.base", "backends.test_utils", "basic", "delete_regress", "transaction_hooks"),
    *("transactions", "test_utils.tests.DisallowedDatabaseQueriesTests"),
)
"""What is closest to connections and transactions, and takes seconds."""
SECONDS = 180.0
"""For each of the three runs, which take about four."""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
    for scope in SCOPES:
        arguments = (*arguments, "--scope", scope)
    good = main([*LABELS, "--timeout", str(SECONDS), *arguments]) == 0
    output = capsys.readouterr().out
    assert good, output
    assert output.endswith("no differences\n")


def test_sqlite_passes_what_the_stock_engine_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """scenario 52, on files, in both scopes."""
    run(capsys, "--engine", "sqlite3")


@pytest.mark.parametrize("driver", DRIVERS)
def test_postgresql_passes_what_the_stock_engine_passes(
    capsys: pytest.CaptureFixture[str], postgresql_url: str, driver: str
) -> None:
    """scenario 52, with both drivers, in both scopes."""
    run(capsys, "--engine", "postgresql", "--driver", driver, "--url", postgresql_url)


def test_mariadb_passes_what_the_stock_engine_passes(capsys: pytest.CaptureFixture[str]) -> None:
    if reason := missing():
        pytest.skip(reason)
    run(capsys, "--engine", "mysql")
