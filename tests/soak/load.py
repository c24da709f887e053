"""What the threads of the soak do with a pooled database."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
import warnings
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.db import Error, connections, transaction

from pooling.core.errors import LeaseError, PoolError, TooManyWaiters

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.soak.watch import Watch

ALIAS = "soak"
CHILD_SECONDS = 20.0
"""After which a forked child that hangs is ended."""


class DeliberateError(Exception):
    """What ends a block that is to be rolled back."""


class Worker:
    """A thread that does random things for as long as the soak lasts.

    It can be interrupted anywhere by an asynchronous `KeyboardInterrupt`, and goes on then like
    somebody at a prompt: with the same wrapper.
    """

    def __init__(self, watch: Watch, name: str, seed: str) -> None:
        self.watch = watch
        self.random = random.Random(seed)
        self.started = time.monotonic()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.acts: dict[Callable[[], None], float] = {
            self.query: 30,
            self.hold: 5,
            self.commit: 10,
            self.roll_back: 6,
            self.leave_transaction_open: 3,
            self.leave_cursor_open: 3,
            self.fail: 3,
            self.drop_wrapper: 2,
            self.die_with_a_lease: 1,
            self.use_pool: 6,
            self.misuse_pool: 2,
            self.collect: 0.3,
            self.fork: 0.05 if watch.forks else 0.0,
        }
        self.thread.start()

    def _run(self) -> None:
        while not self.watch.ended.is_set():
            try:
                self.step()
            except KeyboardInterrupt:
                self.watch.count("interrupted")

    def step(self) -> None:
        [act] = self.random.choices(list(self.acts), list(self.acts.values()))
        calm = self.watch.calm.is_set()
        if calm and act.__name__ in CARELESS:
            act = self.query
        try:
            act()
            self.watch.count(act.__name__)
        except KeyboardInterrupt:
            raise
        except (Error, PoolError) as error:
            self.watch.failed(act.__name__, error, calm=calm and self.watch.calm.is_set())
        except Exception as error:
            self.watch.wrong(f"{act.__name__} failed with {type(error).__name__}: {error}")
        finally:
            with suppress(Error, PoolError):
                self.wrapper.close()

    @property
    def wrapper(self) -> Any:
        return connections[ALIAS]

    # ---- through Django ------------------------------------------------------------------------

    def query(self) -> None:
        for _ in range(self.random.randint(1, 3)):
            with self.wrapper.cursor() as cursor:
                cursor.execute("SELECT 1")
                if cursor.fetchone() != (1,):
                    self.watch.wrong("SELECT 1 gave something else")

    def hold(self) -> None:
        """Mark the session, and find the mark again: nobody else may be in it meanwhile."""
        wrapper = self.wrapper
        wrapper.ensure_connection()
        lease = wrapper._lease
        self.watch.claim(wrapper.connection, lease)
        token = str(self.random.randint(1, 1_000_000))
        with wrapper.cursor() as cursor:
            self.watch.mark(cursor, token)
            time.sleep(self.random.random() * 0.02)
            found = self.watch.read_mark(cursor)
        if found != token and wrapper._lease is lease and lease._current:
            self.watch.wrong(f"somebody else was in this session: {found!r}, not {token!r}")

    def commit(self) -> None:
        with transaction.atomic(using=ALIAS):
            self._insert()
            with transaction.atomic(using=ALIAS):
                self._insert()
        self.watch.count("pairs committed")

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

    def drop_wrapper(self) -> None:
        self.query()
        with suppress(AttributeError):
            del connections[ALIAS]
        # Wrappers are in cycles, and while everybody waits nobody else makes Python collect them.
        gc.collect()

    def die_with_a_lease(self) -> None:
        def live_and_die() -> None:
            with suppress(Error, PoolError):
                connections[ALIAS].ensure_connection()

        thread = threading.Thread(target=live_and_die, daemon=True)
        thread.start()
        thread.join()

    # ---- past Django ---------------------------------------------------------------------------

    def use_pool(self) -> None:
        timeout = self.random.choice([None, 0.0, 0.05, 1.0])
        try:
            lease = self.watch.pool.acquire(timeout, note="soak")
        except (PoolError, Error) as error:
            if timeout is None and not isinstance(error, TooManyWaiters):
                raise
            return
        self.watch.claim(lease.connection, lease)
        if self.random.random() < 0.2:
            lease.discard()
        elif self.random.random() < 0.2:
            del lease  # forgotten
        else:
            self.watch.pool.release(lease, ping=self.random.random() < 0.2)

    def misuse_pool(self) -> None:
        lease = self.watch.pool.acquire(note="misused")
        lease.release()
        try:
            lease.release()
        except LeaseError:
            pass
        else:
            self.watch.wrong("a second release was accepted")

    def collect(self) -> None:
        gc.collect()

    def fork(self) -> None:
        """Have a child run a query; it must be in a session that is none of ours."""
        with self.watch.forking, warnings.catch_warnings():
            # An interrupt that was sent before we had the lock strikes here, and not in the fork.
            warnings.simplefilter("ignore")  # that there are threads is the point
            pid = os.fork()
            if pid == 0:
                self._be_a_child()
            deadline = time.monotonic() + CHILD_SECONDS
            while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(pid, 9)
                    os.waitpid(pid, 0)
                    self.watch.wrong("a forked child hung")
                    return
                time.sleep(0.01)
            code = os.waitstatus_to_exitcode(ended[1])
            if code:
                self.watch.wrong(f"a forked child ended with {code}: {CHILD_CODES.get(code)}")

    def _be_a_child(self) -> None:
        code = 3
        try:
            if self.watch.pool.stats().size:
                code = 2
            else:
                code = 0
                with suppress(Error, PoolError):  # the server may be away
                    self.query()
        finally:
            os._exit(code)


CARELESS = {"leave_transaction_open", "die_with_a_lease", "drop_wrapper", "fork"}
"""What makes others wait, so that a calm pool could not be told from a broken one."""

CHILD_CODES = {2: "it found its parent's connections in the pool", 3: "an error"}


class Claims:
    """Who uses which connection: never two leases at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[int, tuple[Any, weakref.ref[Any]]] = {}

    def claim(self, connection: Any, lease: Any) -> str | None:
        """Note that `lease` uses `connection`; say who else does."""
        with self._lock:
            before = self._claims.get(id(connection))
            self._claims[id(connection)] = connection, weakref.ref(lease)
            if len(self._claims) > 1000:
                self._claims.clear()
        if before is None:
            return None
        other = before[1]()
        if other is not None and other is not lease and other._current and lease._current:
            return f"{connection} is leased twice: {other} and {lease}"
        return None
