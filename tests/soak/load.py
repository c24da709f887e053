"""What the threads of a run do with a pooled database."""

from __future__ import annotations

import ctypes
import gc
import os
import random
import threading
import time
import warnings
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from django.db import Error, connections, transaction

from pooling.core.errors import LeaseError, PoolError, TooManyWaiters
from tests.soak.monitor import choose
from tests.soak.tenants import TENANT, TENANTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.soak.monitor import Monitor

ALIAS = "soak"
TENANT_ALIAS = "soak_tenants"
CHILD_SECONDS = 20.0
"""After which a forked child hangs."""
JOIN_SECONDS = 30.0
"""After which a thread that was to be joined hangs."""


class DeliberateError(Exception):
    """Ends a block that is to be rolled back."""


def interrupt(ident: int) -> None:
    """Raise KeyboardInterrupt in a thread, before its next bytecode."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident), ctypes.py_object(KeyboardInterrupt)
    )


class Load:
    """Random acts of one thread, which checks what it finds."""

    def __init__(self, monitor: Monitor, seed: str) -> None:
        self.monitor = monitor
        self.random = random.Random(seed)
        self.acts: dict[Callable[[], None], float] = {
            self.query: 30,
            self.hold: 5,
            self.commit: 10,
            self.roll_back: 6,
            self.leave_transaction_open: 3,
            self.leave_cursor_open: 3,
            self.fail: 3,
            self.use_pool: 6,
            self.misuse_pool: 2,
        }

    def step(self) -> None:
        act = choose(self.random, self.acts)
        calm = self.monitor.calm.is_set()
        if calm and act.__name__ in DISTURBING:
            act = self.query
        try:
            act()
            self.monitor.count(act.__name__)
        except (Error, PoolError) as error:
            self.monitor.failed(act.__name__, error, calm=calm and self.monitor.calm.is_set())
        except Exception as error:
            self.monitor.report(f"{act.__name__} failed with {type(error).__name__}: {error}")
        finally:
            with suppress(Error, PoolError):
                self.wrapper.close()

    @property
    def wrapper(self) -> Any:
        return connections[ALIAS]

    # ---- through Django --------------------------------------------------------------------------

    def query(self) -> None:
        generation = self.monitor.generation
        for _ in range(self.random.randint(1, 3)):
            with self.wrapper.cursor() as cursor:
                cursor.execute("SELECT 1")
                if cursor.fetchone() != (1,):
                    self.monitor.report("SELECT 1 returned something else")
                if self.monitor.read_generation is not None:
                    found = self.monitor.read_generation(cursor)
                    if found != generation:
                        self.monitor.report(f"file {found} was read, but {generation} is in place")

    def hold(self) -> None:
        """Mark the session, and find the mark again: no other lease may use it meanwhile."""
        wrapper = self.wrapper
        wrapper.ensure_connection()
        lease = wrapper._lease
        self.monitor.claim(wrapper.connection, lease)
        token = str(self.random.randint(1, 1_000_000))
        with wrapper.cursor() as cursor:
            self.monitor.mark(cursor, token)
            time.sleep(self.random.random() * 0.02)
            found = self.monitor.read_mark(cursor)
        if found != token and wrapper._lease is lease and lease._current:
            self.monitor.report(f"another lease was in this session: {found!r}, not {token!r}")

    def commit(self) -> None:
        with transaction.atomic(using=ALIAS):
            self._insert()
            with transaction.atomic(using=ALIAS):
                self._insert()
        self.monitor.count("pairs committed")

    def roll_back(self) -> None:
        with suppress(DeliberateError), transaction.atomic(using=ALIAS):
            self._insert()
            raise DeliberateError

    def leave_transaction_open(self) -> None:
        self.wrapper.set_autocommit(False)
        self._insert()

    def leave_cursor_open(self) -> None:
        cursor = self.wrapper.cursor()
        cursor.execute("SELECT n FROM ledger LIMIT 3")
        cursor.fetchone()
        self.wrapper.close()
        with suppress(Error):
            cursor.fetchone()

    def fail(self) -> None:
        with suppress(Error), self.wrapper.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    def _insert(self) -> None:
        with self.wrapper.cursor() as cursor:
            cursor.execute("INSERT INTO ledger VALUES (1)")

    def use_tenants(self) -> None:
        """Query as one tenant and then as another; each must get its own database."""
        for tenant in self.random.sample(TENANTS, 2):
            copy_context().run(self._use_tenant, tenant)

    def _use_tenant(self, tenant: str) -> None:
        TENANT.set(tenant)
        wrapper = connections[TENANT_ALIAS]
        try:
            with wrapper.cursor() as cursor:
                cursor.execute("SELECT name FROM tenant")
                [name] = cursor.fetchone()
        finally:
            with suppress(Error, PoolError):
                wrapper.close()
        if name != tenant:
            self.monitor.report(f"tenant {tenant!r} was served the database of {name!r}")

    # ---- past Django -----------------------------------------------------------------------------

    def use_pool(self) -> None:
        timeout = self.random.choice([None, 0.0, 0.05, 1.0])
        try:
            lease = self.monitor.pool.acquire(timeout, note="soak")
        except (PoolError, Error) as error:
            if timeout is None and not isinstance(error, TooManyWaiters):
                raise
            return
        self.monitor.claim(lease.connection, lease)
        if self.random.random() < 0.2:
            lease.discard()
        elif self.random.random() < 0.2:
            del lease  # forgotten
        else:
            self.monitor.pool.release(lease, ping=self.random.random() < 0.2)

    def misuse_pool(self) -> None:
        lease = self.monitor.pool.acquire(note="misused")
        lease.release()
        try:
            lease.release()
        except LeaseError:
            pass
        else:
            self.monitor.report("a second release was accepted")


class Worker(Load):
    """A thread that does random acts until the run ends.

    It can be interrupted anywhere by an asynchronous `KeyboardInterrupt`, and goes on with the same
    wrapper then, as an interactive session would.

    Args:
        more_acts: returns what it does on this server beside the acts for all of them.
    """

    def __init__(
        self,
        monitor: Monitor,
        name: str,
        seed: str,
        more_acts: Callable[[Load], dict[Callable[[], None], float]] = lambda _: {},
    ) -> None:
        super().__init__(monitor, seed)
        self.acts |= more_acts(self)
        self.acts |= {
            self.drop_wrapper: 2,
            self.end_with_a_lease: 1,
            self.be_interrupted_in_join: 1,
            self.use_tenants: 4,
            self.collect: 0.3,
            self.fork: 0.05 if monitor.forks else 0.0,
        }
        self.resting = False
        """Whether it rests, together with what it has started, because the run is paused."""
        self._held: HeldTransaction | None = None
        self.started = time.monotonic()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.monitor.ended.is_set():
            try:
                while self.monitor.paused.is_set():
                    self.resting = self._held is None or self._held.done.is_set()
                    time.sleep(0.002)
                # In this order: a pause that begins now finds that it does not rest, or it is seen.
                self.resting = False
                if not self.monitor.paused.is_set():
                    self.step()
            except KeyboardInterrupt:
                self.monitor.count("interrupted")

    def drop_wrapper(self) -> None:
        self.query()
        with suppress(AttributeError):
            del connections[ALIAS]
        # Wrappers are in cycles, and while all threads wait nothing else starts a collection.
        gc.collect()

    def end_with_a_lease(self) -> None:
        def run() -> None:
            with suppress(Error, PoolError):
                connections[ALIAS].ensure_connection()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join()

    def be_interrupted_in_join(self) -> None:
        """Get Ctrl-C in `join()` and `is_alive()` of a thread that is in a transaction.

        In CPython <= 3.12 that marks the thread as ended, which it has not (python/cpython#90882).
        """
        self._held = held = HeldTransaction(self, interrupts=threading.get_ident())
        held.thread.start()
        deadline = time.monotonic() + JOIN_SECONDS
        while not held.done.is_set():
            try:
                held.is_joined = True
                while not held.done.is_set() and time.monotonic() < deadline:
                    held.thread.is_alive()
                    held.thread.join(0.0005)
                held.is_joined = False
            except KeyboardInterrupt:
                self.monitor.count("interrupted in join")
            if time.monotonic() > deadline:
                self.monitor.report("a transaction of another thread hung while it was joined")
                return

    def collect(self) -> None:
        gc.collect()

    def fork(self) -> None:
        """Have a child run a query; it must be in a session that is none of ours."""
        with self.monitor.forking, warnings.catch_warnings():
            # An interrupt that was sent before we had the lock arrives here, not in the fork.
            warnings.simplefilter("ignore")  # that there are threads is the point
            pid = os.fork()
            if pid == 0:
                self._run_child()
            deadline = time.monotonic() + CHILD_SECONDS
            while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(pid, 9)
                    os.waitpid(pid, 0)
                    self.monitor.report("a forked child hung")
                    return
                time.sleep(0.01)
            code = os.waitstatus_to_exitcode(ended[1])
            if code:
                self.monitor.report(f"a forked child ended with {code}: {CHILD_CODES.get(code)}")

    def _run_child(self) -> None:
        code = 3
        try:
            if self.monitor.pool.stats().size:
                code = 2
            else:
                code = 0
                with suppress(Error, PoolError):  # the server may be down
                    self.query()
        finally:
            os._exit(code)


class HeldTransaction:
    """A thread that holds a transaction for a while, in a session that it has marked.

    Args:
        interrupts: the ident of a thread that is interrupted meanwhile, while it sets `is_joined`.
    """

    def __init__(self, load: Load, *, interrupts: int | None = None) -> None:
        self._load = load
        self._interrupts = interrupts
        self._token = str(load.random.randint(1, 1_000_000))
        self._seconds = load.random.random() * 0.03
        self.is_joined = False
        self.is_open = threading.Event()
        """Set when the transaction is open, or could not be opened."""
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            calm = self._load.monitor.calm.is_set()
            try:
                self._hold()
            except (Error, PoolError) as error:
                calm = calm and self._load.monitor.calm.is_set()
                self._load.monitor.failed("a held transaction", error, calm=calm)
            finally:
                with suppress(Error, PoolError):
                    connections[ALIAS].close()
        except Exception as error:
            self._load.monitor.report(f"a held transaction: {type(error).__name__}: {error}")
        finally:
            self.is_open.set()
            self.done.set()

    def _hold(self) -> None:
        monitor, wrapper = self._load.monitor, connections[ALIAS]
        with transaction.atomic(using=ALIAS):
            lease = wrapper._lease  # type: ignore[attr-defined]
            monitor.claim(wrapper.connection, lease)
            with wrapper.cursor() as cursor:
                monitor.mark(cursor, self._token)
                cursor.execute("INSERT INTO ledger VALUES (1)")
                self.is_open.set()
                for _ in range(4):
                    if self._interrupts is not None and self.is_joined:
                        interrupt(self._interrupts)
                    time.sleep(self._seconds / 4)
                found = monitor.read_mark(cursor)
                if found != self._token:
                    monitor.report(f"another lease was in a transaction: {found!r}")
                cursor.execute("INSERT INTO ledger VALUES (1)")
            if not lease._current:
                monitor.report("the lease of a running transaction was taken away")
        monitor.count("pairs committed")


DISTURBING = {"leave_transaction_open", "end_with_a_lease", "drop_wrapper", "fork"}
"""Acts that make others wait, so that they could not be told from faults of the pool."""

CHILD_CODES = {2: "it found its parent's connections in the pool", 3: "an error"}
