"""The core stands on the standard library alone, and importing it does nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = ("django", "psycopg", "psycopg2", "psycopg_pool", "sqlite3", "MySQLdb")

SCRIPT = """
import importlib, sys, threading
importlib.import_module({module!r})
found = sorted({{name.partition(".")[0] for name in sys.modules}} & set({forbidden!r}))
print(",".join(found), threading.active_count())
"""


@pytest.mark.parametrize(
    "module",
    ["pooling", "pooling.core", "pooling.core.pool", "pooling.core.scheduler"],
)
def test_an_import_brings_no_django_no_driver_and_no_thread(module: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(module=module, forbidden=FORBIDDEN)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert answer.stdout == " 1\n"
    assert answer.stderr == ""


def test_every_public_name_is_there() -> None:
    import pooling

    assert [name for name in pooling.__all__ if not hasattr(pooling, name)] == []


def test_no_file_of_the_core_but_the_pool_takes_the_pools_lock() -> None:
    takers = [
        path.name
        for path in sorted((ROOT / "pooling" / "core").glob("*.py"))
        if "with self._lock" in path.read_text() or "with pool._lock" in path.read_text()
    ]
    # Scheduler, threads and workers have locks of their own.
    assert takers == ["pool.py", "scheduler.py", "threads.py", "worker_threads.py"]
