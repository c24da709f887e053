"""A run on SQLite."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.soak.faults import Faults
from tests.soak.stress import MAX_SIZE, OPTIONS, TENANT_OPTIONS, Stress
from tests.soak.tenants import TENANTS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from contextlib import ExitStack

MAX_IDLE = 0.5
"""Seconds, so that now and then all connections of the file are closed."""


class SqliteStress(Stress):
    """A file, three threads, and other files that replace it."""

    threads = 3
    driver_error = sqlite3.Error

    def __init__(self, seed: int, print_line: Callable[[str], None], folder: Path) -> None:
        super().__init__(seed, print_line)
        self.folder = folder
        self.path = folder / "soak.sqlite3"
        """A symbolic link to the file in place."""

    def prepare(self, stack: ExitStack) -> dict[str, Any]:
        first = self._file(0)
        with closing(sqlite3.connect(first, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = wal")
            connection.execute("CREATE TABLE ledger (n integer)")
            connection.execute("CREATE INDEX ledger_n ON ledger (n)")
            connection.execute("CREATE TABLE generation AS SELECT 0 AS n")
            connection.execute("CREATE TABLE filler (bytes blob)")
        self.path.symlink_to(first)
        pool = {**OPTIONS, "name": f"soak-sqlite-{self.seed}", "max_idle": MAX_IDLE}
        options = {"pool": pool, "timeout": 20, "transaction_mode": "IMMEDIATE"}
        return {"ENGINE": "pooling.backends.sqlite3", "NAME": str(self.path), "OPTIONS": options}

    def _file(self, generation: int) -> Path:
        return self.folder / f"soak-{generation}.sqlite3"

    def prepare_tenants(self, settings: dict[str, Any]) -> dict[str, Any]:
        name = str(self.folder / "tenants")
        for tenant in TENANTS:
            with closing(sqlite3.connect(f"{name}-{tenant}", isolation_level=None)) as connection:
                connection.execute(f"CREATE TABLE tenant AS SELECT '{tenant}' AS name")
        return {
            "ENGINE": "tests.soak.tenants.sqlite3",
            "NAME": name,
            "OPTIONS": {"pool": TENANT_OPTIONS, "timeout": 20},
        }

    def instruments(self) -> dict[str, Any]:
        return {
            "sessions": self._sessions,
            "mark": lambda cursor, token: cursor.execute(f"PRAGMA cache_size = {token}"),
            "read_mark": lambda cursor: str(cursor.execute("PRAGMA cache_size").fetchone()[0]),
            "read_generation": self._read_generation,
            "forks": False,
        }

    def _read_generation(self, cursor: Any) -> int:
        [(generation,)] = cursor.execute("SELECT n FROM generation").fetchall()
        return int(generation)

    def _sessions(self) -> int | None:
        paths = [os.path.realpath(file) for file in self.folder.glob("soak-*.sqlite3")]
        files = sum(file.path in paths for file in psutil.Process().open_files())
        if self.monitor.ended.is_set():
            return files
        # While any connection of the process has a lock on the file, SQLite keeps the descriptors
        # of others that were closed (POSIX locks would go with them): so they are closed late.
        driver: Any = self.monitor.pool._driver
        return min(files, len(driver._sessions))

    def _replace_file(self, random: random.Random) -> None:
        """Put a copy with another number in the file's place, and look at what a lease finds."""
        generation = self.monitor.generation + 1
        new, live = self._file(generation), self.path.resolve()
        with closing(sqlite3.connect(live, isolation_level=None)) as connection:
            connection.execute("VACUUM INTO ?", [str(new)])
        with closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = wal")
            connection.execute("UPDATE generation SET n = ?", [generation])
            connection.execute("DELETE FROM filler")
            size = random.randint(0, 100_000)
            connection.execute("INSERT INTO filler VALUES (zeroblob(?))", [size])
            connection.execute("VACUUM")
        how = random.choice(("replaced", "switched", "overwritten"))
        if how == "overwritten" and not self._wait_until_closed(live):
            how = "replaced"
        if how == "replaced":
            new.replace(live)
        elif how == "switched":
            link = self.folder / "link"
            link.symlink_to(new)
            link.replace(self.path)
        else:
            before = live.stat().st_mtime_ns
            while live.stat().st_mtime_ns == before:  # the clock of files ticks slowly
                shutil.copyfile(new, live)
        self.monitor.generation = generation
        self.monitor.count(f"files {how}")
        with self.monitor.pool.acquire(note="after a replacement") as connection:
            found = self._read_generation(connection)
            verdict = connection.execute("PRAGMA integrity_check(1)").fetchall()
        if found != generation or verdict != [("ok",)]:
            self.monitor.report(f"file {generation}, {how}: {found} was read, {verdict}")

    def _wait_until_closed(self, live: Path) -> bool:
        """Wait until the file has no log: no file in WAL mode may be overwritten with one."""
        deadline = time.monotonic() + 4 * MAX_IDLE
        while Path(f"{live}-wal").exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def make_faults(self) -> Faults:
        return Faults(
            self.monitor, self.workers, f"{self.seed}-faults", max_size=MAX_SIZE,
            replace_file=self._replace_file, is_resting=lambda: self.is_resting,
        )  # fmt: skip

    def ledger(self) -> int:
        with closing(sqlite3.connect(self.path)) as connection:
            if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                self.monitor.report("the file is corrupt")
            [(count,)] = connection.execute("SELECT count(*) FROM ledger").fetchall()
        return int(count)
