"""Django's test runner, which also writes down what became of each test."""

from __future__ import annotations

import json
import os
import unittest
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.test.runner import DiscoverRunner


def write(test: str, outcome: str, detail: str) -> None:
    """Append one line to the file `DJANGO_SUITE_OUTCOMES`.

    Line by line, so that a run that is killed leaves behind how far it came.
    """
    line = json.dumps({"test": test, "outcome": outcome, "detail": detail})
    with Path(os.environ["DJANGO_SUITE_OUTCOMES"]).open("a") as file:
        file.write(f"{line}\n")


class Recorder(unittest.TextTestResult):
    """Write down every outcome.

    Under `--parallel` those of the worker processes are replayed here, in the main one.
    """

    def _record(self, test: Any, outcome: str, detail: str = "") -> None:
        write(test.id(), outcome, detail)

    def addSuccess(self, test: Any) -> None:  # noqa: N802 - unittest's name, like those below
        super().addSuccess(test)
        self._record(test, "passed")

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self._record(test, "failed", self.errors[-1][1])

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self._record(test, "failed", self.failures[-1][1])

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            kind = self.failures if issubclass(err[0], test.failureException) else self.errors
            self._record(test, "failed", f"{subtest}\n{kind[-1][1]}")

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self._record(test, "skipped", reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addExpectedFailure(test, err)
        self._record(test, "expected failure")

    def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
        super().addUnexpectedSuccess(test)
        self._record(test, "failed", "unexpected success")


class Runner(DiscoverRunner):
    """Django's, with a `Recorder`."""

    def get_resultclass(self) -> type[Recorder]:
        return Recorder

    def setup_databases(self, **kwargs: Any) -> Any:
        if connection.vendor == "postgresql" and not self._has_pgcrypto():
            # Without its migrations only the few tests of this app that compute hashes fail.
            settings.MIGRATION_MODULES["db_functions"] = None
        for reason in getattr(connection.features, "pool_test_skips", {}):
            write("", "declared", reason)
        return super().setup_databases(**kwargs)

    def _has_pgcrypto(self) -> bool:
        """Tell whether the server has the extension; the one from the wheel does not."""
        with connection._nodb_cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'pgcrypto'")
            return cursor.fetchone() is not None
