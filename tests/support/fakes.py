"""Fakes for the core's tests: clock, driver, workers and scheduler under the test's control.

`PoolHarness` puts them together. By default everything runs in the test's own thread: the workers'
jobs at once, maintenance when `pass_time` reaches it. A wait of the test's own thread runs what was
registered with `clock.meanwhile`, and lets the time pass when nothing is left of it.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pooling.core.budget import Probe
from pooling.core.clock import Clock
from pooling.core.config import PoolConfig
from pooling.core.listener import NULL_LISTENER, Listener
from pooling.core.pool import Pool
from pooling.core.scheduler import Scheduler
from pooling.core.worker_threads import Workers

if TYPE_CHECKING:
    from collections.abc import Callable

TEST_TIMEOUT = 20.0
"""Seconds after which a test that waits for another thread gives up. No test that passes waits."""


class FakeClock(Clock):
    """A clock that stands still until somebody advances it.

    The thread that made it owns the time: when that one waits, nothing else can happen, so it does
    what was put down with `meanwhile`, and if that does not serve it, its time passes at once.
    Other threads wait until they are served, or until `advance` passes their deadline.
    """

    def __init__(self) -> None:
        self._now = 1000.0
        self._owner = threading.current_thread()
        self._meanwhile: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition()
        self._sleepers: set[_Sleeper] = set()

    def now(self) -> float:
        return self._now

    def meanwhile(self, *actions: Callable[[], object]) -> None:
        """Do `actions` while the owner waits: one after the other, until it is served."""
        self._meanwhile.extend(actions)

    def wait(self, wakeup: threading.Lock, seconds: float | None) -> bool:
        deadline = float("inf") if seconds is None else self._now + seconds
        if threading.current_thread() is self._owner:
            return self._let_time_pass(wakeup, deadline)
        with self._changed:
            if wakeup.acquire(blocking=False):
                return True
            if deadline <= self._now:
                return False
            sleeper = _Sleeper(wakeup, deadline)
            self._sleepers.add(sleeper)
            self._changed.notify_all()
        wakeup.acquire()
        with self._changed:
            self._sleepers.discard(sleeper)
            self._changed.notify_all()
        return not sleeper.expired

    def advance(self, seconds: float) -> None:
        """Let time pass; return when everybody whose time is up has woken."""
        with self._changed:
            self._now += seconds
            late = [each for each in self._sleepers if each.deadline <= self._now]
            for sleeper in late:
                if sleeper.wakeup.locked():
                    sleeper.expired = True
                    sleeper.wakeup.release()
            woken = self._changed.wait_for(lambda: self._sleepers.isdisjoint(late), TEST_TIMEOUT)
        assert woken

    @property
    def sleepers(self) -> int:
        """How many threads wait, without those that were served and are about to wake."""
        return sum(sleeper.wakeup.locked() for sleeper in self._sleepers)

    def wait_for_sleepers(self, number: int) -> None:
        """Return when exactly `number` threads wait."""
        with self._changed:
            reached = self._changed.wait_for(lambda: self.sleepers == number, TEST_TIMEOUT)
        assert reached, f"{self.sleepers} threads wait, not {number}"

    def _let_time_pass(self, wakeup: threading.Lock, deadline: float) -> bool:
        while not wakeup.acquire(blocking=False):
            if self._now >= deadline:
                return False
            if self._meanwhile:
                self._meanwhile.popleft()()
            else:
                assert deadline < float("inf"), "this thread would wait for ever"
                self.advance(deadline - self._now)
        return True


class _Sleeper:
    def __init__(self, wakeup: threading.Lock, deadline: float) -> None:
        self.wakeup = wakeup
        self.deadline = deadline
        self.expired = False


class Gate:
    """Something to pass for those who come to it, which is closed at first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._arrived = 0
        self._tickets = 0.0

    def __call__(self, *_: object) -> None:
        with self._changed:
            self._arrived += 1
            self._changed.notify_all()
            admitted = self._changed.wait_for(lambda: self._tickets > 0, TEST_TIMEOUT)
            self._tickets -= 1
        assert admitted, "nobody opened the gate"

    def wait_for(self, number: int = 1) -> None:
        """Return when `number` have come to the gate, those that have passed it included."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: self._arrived >= number, TEST_TIMEOUT)
        assert arrived, f"{self._arrived} came to the gate, not {number}"

    def admit(self, number: float) -> None:
        """Let `number` pass."""
        with self._changed:
            self._tickets += number
            self._changed.notify_all()

    def open(self) -> None:
        """Let everybody pass, for good."""
        self.admit(float("inf"))


class FakeOperationalError(Exception):
    """What the fake driver calls its `OperationalError`."""


class RefusedError(FakeOperationalError):
    """A failure to connect that may be over in a moment."""


class WrongPasswordError(FakeOperationalError):
    """A failure to connect that trying again does not mend."""


class FakeConnection:
    """A connection that counts what happens to it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pings = self.resets = self.closes = 0
        self.probes: list[bool] = []
        """Looks at the budget: whether callers waited for the connection."""
        self.gone = False
        """Whether it was closed."""
        self.dead = False
        """Whether the server is gone: every test fails."""
        self.readable = False
        """Whether the free test says "look closer" though all is well."""
        self.busy = threading.Lock()

    def __repr__(self) -> str:
        return f"<connection {self.number}>"


class FakeDriver:
    """A driver of connections to nowhere, which does as it is told and watches over the rules.

    `plan("connect", step, ...)` says what the next calls do, `always("connect", step)` what all
    the others do: raise `step` if it is an exception, else call it with the connection (`None` for
    `connect`). A `Gate` is such a step. Breaches of the driver's contract end up in `faults`.
    """

    operational_error: type[Exception] = FakeOperationalError

    def __init__(self) -> None:
        self.connections: list[FakeConnection] = []
        self.found = Probe(None, 0.5)
        """What a look at the budget finds."""
        self.faults: list[str] = []
        self._numbers = itertools.count(1)
        self._plans: dict[str, deque[Any]] = {}
        self._always: dict[str, Any] = {}

    def plan(self, method: str, *steps: Any) -> None:
        self._plans.setdefault(method, deque()).extend(steps)

    def always(self, method: str, step: Any) -> None:
        self._always[method] = step

    @property
    def open(self) -> list[FakeConnection]:
        """The connections that were opened and not closed."""
        return [each for each in self.connections if not each.closes]

    def connect(self) -> FakeConnection:
        self._step("connect", None)
        connection = FakeConnection(next(self._numbers))
        self.connections.append(connection)
        return connection

    def is_alive(self, connection: FakeConnection) -> bool:
        self._use("is_alive", connection)
        return not (connection.dead or connection.readable)

    def ping(self, connection: FakeConnection) -> None:
        connection.pings += 1
        self._use("ping", connection)
        self._fail_if_dead(connection)

    def reset(self, connection: FakeConnection) -> None:
        connection.resets += 1
        self._use("reset", connection)
        self._fail_if_dead(connection)

    def close(self, connection: FakeConnection) -> None:
        connection.closes += 1
        if connection.gone:
            self.faults.append(f"{connection} was closed again")
        self._use("close", connection)
        connection.gone = True  # after an interrupt, closing it once more is no fault

    def probe(self, connection: FakeConnection, *, in_demand: bool) -> Probe:
        connection.probes.append(in_demand)
        self._use("probe", connection)
        self._fail_if_dead(connection)
        return self.found

    def is_transient(self, error: BaseException) -> bool:
        return isinstance(error, RefusedError)

    def _use(self, method: str, connection: FakeConnection) -> None:
        if connection.closes and method != "close":
            self.faults.append(f"{method} of {connection}, which is closed")
        if not connection.busy.acquire(blocking=False):
            self.faults.append(f"{method} of {connection}, which is in use")
            return
        try:
            self._step(method, connection)
        finally:
            connection.busy.release()

    def _step(self, method: str, connection: FakeConnection | None) -> None:
        step = self._always.get(method)
        with suppress(KeyError, IndexError):
            step = self._plans[method].popleft()
        if isinstance(step, BaseException) or (
            isinstance(step, type) and issubclass(step, BaseException)
        ):
            raise step
        if step is not None:
            step(connection)

    def _fail_if_dead(self, connection: FakeConnection) -> None:
        if connection.dead:
            raise FakeOperationalError("server closed the connection unexpectedly")


class InlineWorkers(Workers):
    """Workers that do each job at once, in the thread that brings it."""

    def run(self, job: Callable[[], None]) -> None:
        job()


class ManualWorkers(Workers):
    """Workers that keep their jobs until the test has them done."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: deque[Callable[[], None]] = deque()

    def run(self, job: Callable[[], None]) -> None:
        self.jobs.append(job)

    def work(self, number: int = 1) -> None:
        """Do the oldest `number` jobs."""
        for _ in range(number):
            self.jobs.popleft()()

    def work_all(self) -> None:
        """Do all jobs, also those that come up meanwhile."""
        while self.jobs:
            self.work()


class ManualScheduler(Scheduler):
    """Scheduler that notes its calls and comes when the test says so."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.calls: list[float] = []

    @property
    def due(self) -> float:
        """When the next pool is due."""
        return min(self._due.values(), default=float("inf"))

    def schedule(self, pool: Any, when: float) -> None:
        self.calls.append(when)
        self._due[pool] = min(when, self._due.get(pool, float("inf")))


class PoolHarness:
    """A clock, a driver, workers and maintenance, and the pools that are made of them."""

    def __init__(self, workers: Workers | None = None) -> None:
        self.clock = FakeClock()
        self.driver = FakeDriver()
        self.workers = workers or InlineWorkers()
        self.scheduler = ManualScheduler(self.clock)
        self.luck = 0.0
        """What every random number is."""

    def pool(self, listener: Listener = NULL_LISTENER, **options: Any) -> Pool[FakeConnection]:
        """Make a pool; without other options it opens nothing that nobody asks for."""
        return Pool(
            self.driver,
            PoolConfig(**{"min_size": 0, "timeout": 5.0, **options}),
            listener=listener,
            clock=self.clock,
            workers=self.workers,
            scheduler=self.scheduler,
            random=lambda: self.luck,
        )

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with maintenance whenever it is due."""
        end = self.clock.now() + seconds
        rounds = 0
        while self.scheduler.due <= end:
            self.clock.advance(max(self.scheduler.due - self.clock.now(), 0.0))
            self.scheduler.run_once()
            rounds += 1
            assert rounds < 10_000, "maintenance spins"
        self.clock.advance(max(end - self.clock.now(), 0.0))


class Caller:
    """A thread that does one thing and keeps what came of it."""

    def __init__(self, act: Callable[[], Any], name: str | None = None) -> None:
        self._act = act
        self._result: Any = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def result(self) -> Any:
        """Return or raise what came of it, when it has ended."""
        self.join()
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self._result

    def join(self) -> None:
        self.thread.join(TEST_TIMEOUT)
        assert not self.thread.is_alive(), f"{self.thread.name} does not end"

    def _run(self) -> None:
        try:
            self._result = self._act()
        except BaseException as error:
            self._error = error
        finally:
            del self._act
