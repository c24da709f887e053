"""A run on any server: a pool, threads that use it, faults, and the audit of all that."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from django.db import connections

from pooling.registry import REGISTRY
from tests.soak.load import ALIAS, TENANT_ALIAS, Worker
from tests.soak.main_thread import MainThreadLoad
from tests.soak.monitor import BOUND, Monitor, audit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.soak.faults import Faults
    from tests.soak.load import Load

MAX_SIZE = 6
"""`max_size`, when no fault has resized the pool."""
CALM_SECONDS = 3.0
"""Without faults at the end, in which no caller may see an error."""
STANDSTILL = 30.0
"""Seconds without a single act after which the run is stuck."""
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
            entries |= self.prepare_others(settings)
            complete = connections.configure_settings({"default": {}, **entries})
            for alias in entries:
                connections.settings[alias] = complete[alias]
                stack.callback(connections.settings.pop, alias)
            stack.callback(lambda: [pool.close() for pool in _tenant_pools()])
            stack.callback(REGISTRY.close_database, str(settings["NAME"]))
            stack.callback(_close_wrappers)
            pool = connections[ALIAS].resolve_pool()  # type: ignore[attr-defined]
            self.monitor = Monitor(lambda: pool, **self.instruments())
            self.start_others()
            self.main_thread = MainThreadLoad(self.monitor, f"{self.seed}-main")
            self.faults = self.make_faults()
            stack.enter_context(_ignore_interrupts())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.monitor.ended.set()
        self._stack.close()

    # ---- what differs between servers ------------------------------------------------------------

    @property
    def driver_error(self) -> type[Exception]:
        """The base class of what the driver raises."""
        raise NotImplementedError

    def prepare(self, stack: ExitStack) -> dict[str, Any]:
        """Start what is needed, make the table `ledger`; return the entry for `DATABASES`."""
        raise NotImplementedError

    def prepare_tenants(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Make a database with a table `tenant` for each of them; return the common entry."""
        raise NotImplementedError

    def prepare_others(self, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the entries of further aliases."""
        return {}

    def instruments(self) -> dict[str, Any]:
        """Return the arguments of `Monitor`."""
        raise NotImplementedError

    def start_others(self) -> None:
        """Start what takes part beside the threads. The monitor is there."""

    def more_acts(self, load: Load) -> dict[Callable[[], None], float]:
        """Return what the threads do on this server alone."""
        return {}

    def make_faults(self) -> Faults:
        raise NotImplementedError

    def begin_calm(self) -> None:
        """Tell all that take part that no faults come any more."""
        self.monitor.calm.set()

    def wait_for_recovery(self) -> None:
        """Report what has not come back in the calm; observe meanwhile."""

    def end_others(self) -> None:
        """End what `start_others` has started. The threads have ended, all pools are closed."""

    def ledger(self) -> int:
        """Return how many rows were committed."""
        raise NotImplementedError

    # ---- a run -----------------------------------------------------------------------------------

    def run(self, seconds: float) -> list[str]:
        """Return the problems found. Call it in the main thread, which signals are delivered to."""
        monitor = self.monitor
        self.workers += [
            Worker(monitor, f"load-{number}", f"{self.seed}-{number}", self.more_acts)
            for number in range(self.threads)
        ]
        self.faults.thread.start()
        self._observe(max(seconds - CALM_SECONDS, 0.0))
        self.faults.end()
        self._observe(1.0)
        self.begin_calm()
        self._observe(CALM_SECONDS)
        self.wait_for_recovery()
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
                self.workers[number] = Worker(
                    self.monitor, worker.thread.name, name, self.more_acts
                )

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
        for other in monitor.other_pools:
            monitor.wait_for_rest(other)
            other.close()
        self.end_others()
        deadline = time.monotonic() + BOUND
        while (left := monitor.sessions()) != 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        if left:
            monitor.report(f"{left} sessions are left at the server")
        try:
            rows, pairs = self.ledger(), monitor.counts["pairs committed"]
        except self.driver_error as error:
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
