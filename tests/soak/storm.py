"""The soak itself: a pool, threads that use it, faults, and somebody who watches."""

from __future__ import annotations

import gc
import os
import sqlite3
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import psutil
from django.db import connections

from pooling.registry import REGISTRY
from tests.faults.proxy import FaultProxy
from tests.servers import driver, settings_from_url
from tests.soak.faults import Faults
from tests.soak.load import ALIAS, Worker
from tests.soak.watch import BOUND, Watch
from tests.support_postgres import PrivatePostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MOST = 6
"""`max_size`, when nobody has resized the pool."""
CALM = 3.0
"""Seconds of calm at the end, in which nobody may see an error."""
STANDSTILL = 30.0
"""Seconds without a single act after which something is stuck."""
OPTIONS = {
    "min_size": 1, "max_size": MOST, "timeout": 5.0, "recycle": 20.0, "max_idle": 5.0,
    "max_uses": 500, "ping_after": 2.0, "leak_after": 2.0,
}  # fmt: skip


@contextmanager
def _silence() -> Iterator[None]:
    """Say nothing of the interrupts that end a thread, or strike in a finaliser."""
    hooks = sys.unraisablehook, threading.excepthook

    def swallow(outside: Callable[[Any], object]) -> Callable[[Any], object]:
        return lambda what: None if what.exc_type is KeyboardInterrupt else outside(what)

    sys.unraisablehook, threading.excepthook = map(swallow, hooks)
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = hooks


def _forget_wrapper() -> None:
    """Leave no wrapper of this thread to the next storm."""
    with suppress(AttributeError):
        del connections[ALIAS]


class Storm:
    """One pool in bad weather; a context manager that leaves nothing behind."""

    threads: int

    def __init__(self, seed: int, say: Callable[[str], None]) -> None:
        self.seed = seed
        self.say = say
        self.watch: Watch
        self.workers: list[Worker] = []
        self._stack = ExitStack()
        self._replaced = 0
        self._last_done = 0
        self._last_progress = time.monotonic()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            settings = self.prepare(stack)
            connections.settings[ALIAS] = connections.configure_settings(
                {"default": {}, ALIAS: settings}
            )[ALIAS]
            stack.callback(connections.settings.pop, ALIAS)
            stack.callback(_forget_wrapper)
            stack.callback(REGISTRY.close_database, str(settings["NAME"]))
            pool = connections[ALIAS].resolve_pool()
            self.watch = Watch(lambda: pool, **self.instruments())
            self.faults = self.make_faults()
            stack.enter_context(_silence())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.ended.set()
        self._stack.close()

    # ---- what differs between servers ----------------------------------------------------------

    def prepare(self, stack: ExitStack) -> dict[str, Any]:
        """Start what is needed, make the table `ledger`; return the entry for `DATABASES`."""
        raise NotImplementedError

    def instruments(self) -> dict[str, Any]:
        """Return the arguments of `Watch`."""
        raise NotImplementedError

    def make_faults(self) -> Faults:
        raise NotImplementedError

    def ledger(self) -> int:
        """Return how many rows were committed."""
        raise NotImplementedError

    # ---- the course of it ----------------------------------------------------------------------

    def run(self, seconds: float) -> list[str]:
        """Return what was wrong, the empty list if nothing was."""
        watch = self.watch
        self.workers += [
            Worker(watch, f"load-{number}", f"{self.seed}-{number}")
            for number in range(self.threads)
        ]
        self.faults.thread.start()
        self._observe(max(seconds - CALM, 0.0))
        self.faults.end()
        self._observe(1.0)
        watch.calm.set()
        self._observe(CALM)
        watch.ended.set()
        for worker in self.workers:
            worker.thread.join(60.0)
            if worker.thread.is_alive():
                watch.wrong(f"{worker.thread.name} does not end")
        self._end()
        return watch.faults

    def _observe(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        progress = compare = time.monotonic()
        while (now := time.monotonic()) < end and len(self.watch.faults) < 20:
            self.watch.look()
            if now >= compare:
                compare = now + 1.0
                self.watch.compare()
                self._replace_the_dead()
            self._expect_progress(now)
            if now >= progress:
                progress = now + 10.0
                self.say(f"{self.watch.pool!r}, {self._summary()}")
            time.sleep(0.02)

    def _expect_progress(self, now: float) -> None:
        """Nothing that is done to the pool may stop everybody for good."""
        if (done := self._done()) != self._last_done:
            self._last_done, self._last_progress = done, now
        elif now - self._last_progress > STANDSTILL:
            self.watch.wrong(f"nobody has done anything for {STANDSTILL:g} s: {self.watch.pool!r}")
            self._last_progress = now

    def _done(self) -> int:
        counts = self.watch.counts
        return sum(n for what, n in counts.items() if hasattr(Worker, what))

    def _replace_the_dead(self) -> None:
        """An interrupt may strike a thread outside of what it does, and end it."""
        for number, worker in enumerate(self.workers):
            if not worker.thread.is_alive():
                self._replaced += 1
                name = f"{self.seed}-{number}-{self._replaced}"
                self.workers[number] = Worker(self.watch, worker.thread.name, name)

    def _end(self) -> None:
        watch, pool = self.watch, self.watch.pool
        self.workers.clear()
        gc.collect()
        watch.come_to_rest()
        watch.look()
        pool.close()
        watch.come_to_rest()
        deadline = time.monotonic() + BOUND
        sessions = watch._sessions
        while (left := sessions()) != 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        if left:
            watch.wrong(f"{left} sessions are left at the server")
        if self.ledger() % 2:
            watch.wrong("half a transaction was committed")
        if self.ledger() < 2 * watch.counts["pairs committed"]:
            watch.wrong(f"{self.ledger()} rows, but {watch.counts['pairs committed']} pairs")

    def _summary(self) -> str:
        counts, errors = self.watch.counts, self.watch.errors
        faults = sum(n for what, n in counts.items() if what.startswith("fault: "))
        return (
            f"{self._done()} acts, {sum(errors.values())} failed, {faults} faults, "
            f"{counts['interrupted']} interrupted, {counts['audits']} audits, "
            f"{len(self.watch.faults)} wrong"
        )

    def report(self) -> list[str]:
        """Return what was done, as lines."""
        counts, errors = self.watch.counts, self.watch.errors
        lines = [f"  {n:8} {what}" for what, n in sorted(counts.items())]
        lines += [f"  {n:8} {what}" for what, n in errors.most_common(12)]
        lines.append(f"  {self._replaced:8} threads replaced")
        return lines


class PostgresStorm(Storm):
    """A private server behind a proxy, eight threads, all faults there are."""

    threads = 8

    def prepare(self, stack: ExitStack) -> dict[str, Any]:
        # What a crash must not lose has to be written before the commit is confirmed.
        server = PrivatePostgres(configuration={"synchronous_commit": "on"})
        self.server = stack.enter_context(server)
        self.proxy = stack.enter_context(FaultProxy(self.server.host, self.server.port))
        self._watching = threading.Lock()
        """Held while nobody can ask the server anything."""
        with self._direct() as execute:
            execute("CREATE TABLE ledger (n integer)")
        settings = settings_from_url(self.server.url, "pooling.backends.postgresql")
        options = {
            **settings["OPTIONS"],
            "pool": {**OPTIONS, "name": f"soak-{self.seed}"},
            "application_name": "soak",
        }
        return {**settings, "PORT": str(self.proxy.port), "OPTIONS": options}

    @contextmanager
    def _direct(self) -> Iterator[Callable[[str], list[Any]]]:
        """Talk to the server past the proxy and the pool."""
        connection = driver().connect(
            f"{self.server.url}?application_name=observer", connect_timeout=2
        )
        try:
            connection.autocommit = True

            def execute(statement: str) -> list[Any]:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                    return cursor.fetchall() if cursor.description else []

            yield execute
        finally:
            connection.close()

    def instruments(self) -> dict[str, Any]:
        return {
            "sessions": self._sessions,
            "mark": lambda cursor, token: cursor.execute(
                "SELECT set_config('soak.token', %s, false)", [token]
            ),
            "read_mark": self._read_mark,
            "forks": True,
        }

    def _read_mark(self, cursor: Any) -> str:
        cursor.execute("SELECT current_setting('soak.token', true)")
        return str(cursor.fetchone()[0])

    def _sessions(self) -> int | None:
        if not self._watching.acquire(blocking=False):
            return None  # the server is down or frozen, on purpose
        try:
            with self._direct() as execute:
                [(count,)] = execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'soak'"
                )
                return int(count)
        except driver().Error:
            return None
        finally:
            self._watching.release()

    def _terminate(self, idle: bool) -> None:
        which = "state = 'idle'" if idle else "random() < 0.3"
        with self._direct() as execute:
            execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE application_name = 'soak' AND {which}"
            )

    def make_faults(self) -> Faults:
        return Faults(
            self.watch, self.workers, f"{self.seed}-faults", most=MOST, server=self.server,
            blackout=self._watching, proxy=self.proxy, terminate=self._terminate,
        )  # fmt: skip

    def ledger(self) -> int:
        with self._direct() as execute:
            [(count,)] = execute("SELECT count(*) FROM ledger")
        return int(count)


class SqliteStorm(Storm):
    """A file, three threads, and what can happen to a file."""

    threads = 3

    def __init__(self, seed: int, say: Callable[[str], None], folder: Path) -> None:
        super().__init__(seed, say)
        self.path = folder / "soak.sqlite3"

    def prepare(self, stack: ExitStack) -> dict[str, Any]:
        with sqlite3.connect(self.path) as connection:
            connection.execute("PRAGMA journal_mode = wal")
            connection.execute("CREATE TABLE ledger (n integer)")
        connection.close()
        pool = {**OPTIONS, "max_size": MOST, "name": f"soak-sqlite-{self.seed}"}
        options = {"pool": pool, "timeout": 20, "transaction_mode": "IMMEDIATE"}
        return {"ENGINE": "pooling.backends.sqlite3", "NAME": str(self.path), "OPTIONS": options}

    def instruments(self) -> dict[str, Any]:
        return {
            "sessions": self._sessions,
            "mark": lambda cursor, token: cursor.execute(f"PRAGMA cache_size = {token}"),
            "read_mark": lambda cursor: str(cursor.execute("PRAGMA cache_size").fetchone()[0]),
            "forks": False,
        }

    def _sessions(self) -> int | None:
        path = os.path.realpath(self.path)
        files = sum(file.path == path for file in psutil.Process().open_files())
        if self.watch.ended.is_set():
            return files
        # While anybody in the process has a lock on the file, SQLite keeps the descriptors of
        # connections that were closed (POSIX locks would go with them): so they come down late.
        driver: Any = self.watch.pool._driver
        return min(files, len(driver._sessions))

    def make_faults(self) -> Faults:
        return Faults(self.watch, self.workers, f"{self.seed}-faults", most=MOST)

    def ledger(self) -> int:
        connection = sqlite3.connect(self.path)
        try:
            [(count,)] = connection.execute("SELECT count(*) FROM ledger").fetchall()
        finally:
            connection.close()
        return int(count)
