"""Work of a project, for `poolbench --workload`."""

from __future__ import annotations

import os
from pathlib import Path

from django.db import connection


def note(text: str) -> None:
    with Path(os.environ["OWN_WORK_LOG"]).open("a") as log:
        log.write(f"{text}\n")


def query() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def fail() -> None:
    raise LookupError("no such order")


class Hooked:
    """Notes what is called, and which backend it meets."""

    def set_up(self) -> None:
        note("set_up")

    def __call__(self) -> None:
        query()
        note(connection.settings_dict["ENGINE"])

    def clean_up(self) -> None:
        note("clean_up")


def note_atomic_requests() -> None:
    note(str(connection.settings_dict["ATOMIC_REQUESTS"]))
