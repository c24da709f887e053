"""The runs: a pool, threads that use it, faults, and the audit of all that."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil
from django.db import connections

from pooling.registry import REGISTRY
from tests.soak.faults import Faults
from tests.soak.load import ALIAS, TENANT_ALIAS, Worker
from tests.soak.main_thread import MainThreadLoad
from tests.soak.monitor import BOUND, Monitor, audit
from tests.soak.tenants import TENANTS
from tests.support.fault_proxy import FaultProxy
from tests.support.postgres import PrivatePostgres
from tests.support.servers import driver, settings_from_url

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

MAX_SIZE = 6
"""`max_size`, when no fault has resized the pool."""
CALM_SECONDS = 3.0
"""Without faults at the end, in which no caller may see an error."""
STANDSTILL = 30.0
"""Seconds without a single act after which the run is stuck."""
MAX_IDLE = 0.5
"""`max_idle` on SQLite."""
MOST_PROBLEMS = 20
"""After which a run ends."""
OPTIONS = {
    "min_size": 1, "max_size": MAX_SIZE, "timeout": 5.0, "recycle": 20.0, "max_idle": 5.0,
    "max_uses": 500, "ping_after": 2.0, "leak_after": 2.0,
    "scope": os.environ.get("SOAK_SCOPE") or "request",
}  # fmt: skip
TENANT_OPTIONS = {"name": "soak-tenants", "max_size": 2, "timeout": 5.0, "max_idle": 1.0}


@contextmanager
def _ignore_interrupts() -> Iterator[None]:
    """Print nothing about interrupts that end a thread, or arrive in a finaliser."""
    hooks = sys.unraisablehook, threading.excepthook

    def quiet(hook: Callable[[Any], object]) -> Callable[[Any], object]:
        return lambda what: None if what.exc_type is KeyboardInterrupt else hook(what)

    sys.unraisablehook, threading.excepthook = map(quiet, hooks)
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = hooks


def _close_wrappers() -> None:
    """Leave no wrapper of this thread to the next run."""
    for alias in (ALIAS, TENANT_ALIAS):
        with suppress(AttributeError):
            connections[alias].close()
            del connections[alias]


def _tenant_pools() -> list[Any]:
    return [pool for pool in REGISTRY.pools() if pool.name == TENANT_OPTIONS["name"]]


class Stress:
    """One pool under stress; a context manager that leaves nothing behind."""

    threads: int

    def __init__(self, seed: int, print_line: Callable[[str], None]) -> None:
        self.seed = seed
        self.print_line = print_line
        self.monitor: Monitor
        self.workers: list[Worker] = []
        self.is_resting = True
        """Whether the main thread is between two acts."""
        self._stack = ExitStack()
        self._replaced = 0
        self._last_done = 0
        self._last_progress = time.monotonic()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            settings = self.prepare(stack)
            entries = {ALIAS: settings, TENANT_ALIAS: self.prepare_tenants(settings)}
            complete = connections.configure_settings({"default": {}, **entries})
            for alias in entries:
                connections.settings[alias] = complete[alias]
                stack.callback(connections.settings.pop, alias)
            stack.callback(lambda: [pool.close() for pool in _tenant_pools()])
            stack.callback(REGISTRY.close_database, str(settings["NAME"]))
            stack.callback(_close_wrappers)
            pool = connections[ALIAS].resolve_pool()  # type: ignore[attr-defined]
            self.monitor = Monitor(lambda: pool, **self.instruments())
            self.main_thread = MainThreadLoad(self.monitor, f"{self.seed}-main")
            self.faults = self.make_faults()
            stack.enter_context(_ignore_interrupts())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.monitor.ended.set()
        self._stack.close()

    # ---- what differs between servers ------------------------------------------------------------

    def prepare(self, stack: ExitStack) -> dict[str, Any]:
        """Start what is needed, make the table `ledger`; return the entry for `DATABASES`."""
        raise NotImplementedError

    def prepare_tenants(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Make a database with a table `tenant` for each of them; return the common entry."""
        raise NotImplementedError

    def instruments(self) -> dict[str, Any]:
        """Return the arguments of `Monitor`."""
        raise NotImplementedError

    def make_faults(self) -> Faults:
        raise NotImplementedError

    def ledger(self) -> int:
        """Return how many rows were committed."""
        raise NotImplementedError

    # ---- a run -----------------------------------------------------------------------------------

    def run(self, seconds: float) -> list[str]:
        """Return the problems found. Call it in the main thread, which signals are delivered to."""
        monitor = self.monitor
        self.workers += [
            Worker(monitor, f"load-{number}", f"{self.seed}-{number}")
            for number in range(self.threads)
        ]
        self.faults.thread.start()
        self._observe(max(seconds - CALM_SECONDS, 0.0))
        self.faults.end()
        self._observe(1.0)
        monitor.calm.set()
        self._observe(CALM_SECONDS)
        monitor.ended.set()
        for worker in self.workers:
            worker.thread.join(STANDSTILL)
            if worker.thread.is_alive():
                monitor.report(f"{worker.thread.name} does not end")
        self._end()
        return monitor.problems

    def _observe(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        progress = compare = time.monotonic()
        while (now := time.monotonic()) < end and len(self.monitor.problems) < MOST_PROBLEMS:
            self.monitor.audit()
            if now >= compare:
                compare = now + 1.0
                self.monitor.compare()
                self._replace_ended_threads()
            self._expect_progress(now)
            if now >= progress:
                progress = now + 10.0
                self.print_line(f"{self.monitor.pool!r}, {self._summary()}")
            self._use_main_thread()
            time.sleep(0.005)

    def _use_main_thread(self) -> None:
        # In this order: a pause that begins now finds that it does not rest, or it is seen.
        self.is_resting = False
        if not self.monitor.paused.is_set():
            self.main_thread.step()
        self.is_resting = True

    def _expect_progress(self, now: float) -> None:
        """Report if nothing has been done for long: no fault may stop all threads for good."""
        if (done := self._done()) != self._last_done:
            self._last_done, self._last_progress = done, now
        elif now - self._last_progress > STANDSTILL:
            self.monitor.report(f"no act within {STANDSTILL:g} s: {self.monitor.pool!r}")
            self._last_progress = now

    def _done(self) -> int:
        counts = self.monitor.counts.copy()
        return sum(n for name, n in counts.items() if hasattr(Worker, name))

    def _replace_ended_threads(self) -> None:
        """Start others for threads that an interrupt has ended outside of their acts."""
        for number, worker in enumerate(self.workers):
            if not worker.thread.is_alive():
                self._replaced += 1
                name = f"{self.seed}-{number}-{self._replaced}"
                self.workers[number] = Worker(self.monitor, worker.thread.name, name)

    def _end(self) -> None:
        monitor, pool = self.monitor, self.monitor.pool
        self.workers.clear()
        _close_wrappers()
        gc.collect()
        monitor.wait_for_rest()
        monitor.audit()
        pool.close()
        monitor.wait_for_rest()
        for tenants in _tenant_pools():
            for problem in tenants._run_locked(lambda pool=tenants: audit(pool)):
                monitor.report(problem)
            tenants.close()
        deadline = time.monotonic() + BOUND
        while (left := monitor.sessions()) != 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        if left:
            monitor.report(f"{left} sessions are left at the server")
        try:
            rows, pairs = self.ledger(), monitor.counts["pairs committed"]
        except (driver().Error, sqlite3.Error) as error:
            monitor.report(f"the committed rows cannot be read: {error}")
            return
        if rows % 2:
            monitor.report("half a transaction was committed")
        if rows < 2 * pairs:
            monitor.report(f"{rows} rows, but {pairs} pairs were committed")

    def _summary(self) -> str:
        counts, errors = self.monitor.counts.copy(), self.monitor.errors.copy()
        faults = sum(n for name, n in counts.items() if name.startswith("fault: "))
        return (
            f"{self._done()} acts, {sum(errors.values())} failed, {faults} faults, "
            f"{counts['interrupted']} interrupted, {counts['audits']} audits, "
            f"{len(self.monitor.problems)} problems"
        )

    def report(self) -> list[str]:
        """Return what was done, as lines."""
        counts, errors = self.monitor.counts, self.monitor.errors
        lines = [f"  {n:8} {name}" for name, n in sorted(counts.items())]
        lines += [f"  {n:8} {name}" for name, n in errors.most_common(12)]
        lines.append(f"  {self._replaced:8} threads replaced")
        return lines


class PostgresStress(Stress):
    """A private server behind a proxy, eight threads, all faults there are."""

    threads = 8

    def prepare(self, stack: ExitStack) -> dict[str, Any]:
        # What a crash must not lose has to be written before the commit is confirmed.
        server = PrivatePostgres(configuration={"synchronous_commit": "on"})
        self.server = stack.enter_context(server)
        self.proxy = stack.enter_context(FaultProxy(self.server.host, self.server.port))
        self._blackout = threading.Lock()
        """Held while the server cannot be asked anything."""
        with self._direct() as execute:
            execute("CREATE TABLE ledger (n integer)")
        settings = settings_from_url(self.server.url, "pooling.backends.postgresql")
        options = {
            **settings["OPTIONS"],
            "pool": {**OPTIONS, "name": f"soak-{self.seed}"},
            "application_name": "soak",
        }
        return {**settings, "PORT": str(self.proxy.port), "OPTIONS": options}

    def prepare_tenants(self, settings: dict[str, Any]) -> dict[str, Any]:
        for tenant in TENANTS:
            with self._direct() as execute:
                execute(f"CREATE DATABASE tenant_{tenant}")
            with self._direct(f"tenant_{tenant}") as execute:
                execute(f"CREATE TABLE tenant AS SELECT text '{tenant}' AS name")
        options = {
            **settings["OPTIONS"],
            "pool": TENANT_OPTIONS,
            "application_name": "soak-tenants",
        }
        return {**settings, "ENGINE": "tests.soak.tenants.postgresql", "OPTIONS": options}

    @contextmanager
    def _direct(self, database: str | None = None) -> Iterator[Callable[[str], list[Any]]]:
        """Use the server past the proxy and the pool."""
        arguments = {} if database is None else {"dbname": database}
        connection = driver().connect(
            f"{self.server.url}?application_name=observer", connect_timeout=2, **arguments
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
        if not self._blackout.acquire(blocking=False):
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
            self._blackout.release()

    def _terminate(self, idle: bool) -> None:
        which = "state = 'idle'" if idle else "random() < 0.3"
        with self._direct() as execute:
            execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE application_name = 'soak' AND {which}"
            )

    def make_faults(self) -> Faults:
        return Faults(
            self.monitor, self.workers, f"{self.seed}-faults", max_size=MAX_SIZE,
            server=self.server, blackout=self._blackout, proxy=self.proxy,
            terminate=self._terminate,
        )  # fmt: skip

    def ledger(self) -> int:
        with self._direct() as execute:
            [(count,)] = execute("SELECT count(*) FROM ledger")
        return int(count)


class SqliteStress(Stress):
    """A file, three threads, and other files that replace it."""

    threads = 3

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
