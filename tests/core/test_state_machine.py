"""Everything that can be done to a pool, in random orders, compared with a simple model after each.

Hypothesis draws the steps, always the same ones (`derandomize`), and shortens an order of them that
ends badly. Callers that wait are threads which stand still until the step that serves them; workers
do their jobs when a step says so, so a connection that hangs is one whose job is not done yet.
"""

from __future__ import annotations

import gc
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pooling.core.connection import State
from pooling.core.errors import (
    LeaseError,
    PoolClosed,
    PoolConfigError,
    PoolTimeout,
    ServerDown,
    TooManyWaiters,
)
from tests.support.fakes import (
    TEST_TIMEOUT,
    Caller,
    FakeConnection,
    FakeOperationalError,
    ManualWorkers,
    PoolHarness,
    RefusedError,
    WrongPasswordError,
)
from tests.support.injection import CollectedDriver

if TYPE_CHECKING:
    from pooling.core.connection import Lease

MOST_EXAMPLES = int(os.environ.get("POOLING_EXAMPLES", "200"))
MOST_CALLERS = 5
TIMEOUTS = st.sampled_from([None, 0.0, 0.5])
OUTCOMES = st.sampled_from(
    [
        ("connect", RefusedError),
        ("connect", WrongPasswordError),
        ("connect", SystemExit),
        ("is_alive", FakeOperationalError),
        ("ping", FakeOperationalError),
        ("reset", FakeOperationalError),
        ("reset", KeyboardInterrupt),
        ("close", FakeOperationalError),
    ]
)
pytestmark = pytest.mark.serial  # its threads have to wake in time

ENDS = (SystemExit, KeyboardInterrupt)
"""What may end a worker."""
EXPECTED = (PoolTimeout, TooManyWaiters, ServerDown, PoolClosed, WrongPasswordError, SystemExit)


class PoolMachine(RuleBasedStateMachine):
    """A pool, those who use it, and what is known of both."""

    def __init__(self) -> None:
        super().__init__()
        gc.freeze()  # spares the collector what other tests, and Hypothesis, keep
        self.workers = ManualWorkers()
        self.harness = PoolHarness(self.workers)
        self.harness.driver = self.driver = CollectedDriver()
        self.pool = self.harness.pool()
        self.other = self.harness.pool()
        self.callers: list[Caller] = []
        self.leases: list[Lease[FakeConnection]] = []
        self.dead: list[Lease[FakeConnection]] = []
        """Leases of threads that have ended, which may be over by now."""
        self.closed = self.suspended = self.close_early = False
        self.acquired = self.timeouts = self.rejected = 0
        self.outdated: set[int] = set()
        """The connections there were at a `drain`: they may be finished with, not used again."""
        self.betrayed = False
        """Whether somebody was told that the pool is closed, though it was not."""

    @initialize(
        min_size=st.integers(0, 2),
        max_waiting=st.sampled_from([None, 0, 2]),
        max_uses=st.sampled_from([None, 3]),
        close_early=st.booleans(),
    )
    def make_pool(
        self, min_size: int, max_waiting: int | None, max_uses: int | None, close_early: bool
    ) -> None:
        self.close_early = close_early
        self.pool = self.harness.pool(
            min_size=min_size, max_size=3, timeout=3.0, max_waiting=max_waiting,
            max_uses=max_uses, recycle=500.0, max_idle=60.0, ping_after=10.0, leak_after=30.0,
        )  # fmt: skip

    # ---- callers -------------------------------------------------------------------------------

    @precondition(lambda self: len(self.callers) < MOST_CALLERS)
    @rule(timeout=TIMEOUTS)
    def acquire(self, timeout: float | None) -> None:
        self.callers.append(Caller(lambda: self.pool.acquire(timeout)))
        self.resolve()

    @rule()
    def acquire_and_die(self) -> None:
        """Take what is there, in a thread that ends without giving it back."""
        caller = Caller(lambda: self.pool.acquire(0, thread_bound=True))
        self.note(caller, self.dead)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), ping=st.booleans())
    def release(self, data: st.DataObject, ping: bool) -> None:
        lease = self.take(data)
        with suppress(KeyboardInterrupt):
            self.pool.release(lease, ping=ping)
        assert not lease._current
        with pytest.raises(LeaseError):
            lease.release()
        self.resolve()

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        lease = self.take(data)
        lease.discard()
        with pytest.raises(LeaseError):
            lease.discard()
        self.resolve()

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        self.take(data)
        gc.collect(0)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def give_to_the_wrong_pool(self, data: st.DataObject) -> None:
        # Not the lease itself: Hypothesis keeps what it draws.
        lease = self.leases[data.draw(st.integers(0, len(self.leases) - 1))]
        with pytest.raises(LeaseError):
            self.other.release(lease)

    def take(self, data: st.DataObject) -> Lease[FakeConnection]:
        return self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))

    def resolve(self) -> None:
        """Wait until all callers who do not wait for anything have ended, and note how."""
        deadline = time.monotonic() + TEST_TIMEOUT
        while sum(each.thread.is_alive() for each in self.callers) > self.pool.stats().waiting:
            assert time.monotonic() < deadline, "a caller neither waits nor ends"
            time.sleep(0.0001)
        ended = [each for each in self.callers if not each.thread.is_alive()]
        self.callers = [each for each in self.callers if each not in ended]
        for caller in ended:
            self.note(caller, self.leases)

    def note(self, caller: Caller, leases: list[Lease[FakeConnection]]) -> None:
        try:
            leases.append(caller.result())
            self.acquired += 1
        except EXPECTED as error:
            self.timeouts += isinstance(error, PoolTimeout)
            self.rejected += isinstance(error, (TooManyWaiters, ServerDown))
            self.betrayed |= isinstance(error, PoolClosed) and not self.closed

    # ---- time, threads, the server -------------------------------------------------------------

    @precondition(lambda self: self.workers.jobs)
    @rule()
    def work(self) -> None:
        with suppress(*ENDS):
            self.workers.work()
        self.resolve()

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, 5.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        self.harness.pass_time(seconds)
        self.resolve()

    @rule(seconds=st.sampled_from([0.1, 11.0, 600.0]))
    def sleep_like_a_laptop(self, seconds: float) -> None:
        """Time passes, and nothing is done meanwhile."""
        self.harness.clock.advance(seconds)
        self.resolve()

    @rule()
    def maintain(self) -> None:
        self.pool._tasks.maintain()
        self.resolve()

    @rule(outcome=OUTCOMES)
    def have_a_call_fail(self, outcome: tuple[str, type[BaseException]]) -> None:
        self.driver.plan(*outcome)

    @precondition(lambda self: self.pool._state.idle)
    @rule(data=st.data(), how=st.sampled_from(["dead", "readable"]))
    def break_an_idle_connection(self, data: st.DataObject, how: str) -> None:
        idle = sorted(record.connection.number for record in self.pool._state.idle)
        number = data.draw(st.sampled_from(idle))
        [connection] = [each for each in self.driver.connections if each.number == number]
        setattr(connection, how, True)

    @rule(luck=st.sampled_from([0.0, 0.5, 0.99]))
    def be_lucky(self, luck: float) -> None:
        self.harness.luck = luck

    # ---- operators -----------------------------------------------------------------------------

    @rule()
    def drain(self) -> None:
        self.outdated.update(each.number for each in self.driver.open)
        self.let_workers_work()
        self.pool.drain()
        self.harness.clock._meanwhile.clear()
        self.resolve()

    @rule(min_size=st.integers(0, 3), max_size=st.integers(1, 5))
    def resize(self, min_size: int, max_size: int) -> None:
        try:
            self.pool.resize(min_size=min_size, max_size=max_size)
        except PoolConfigError:
            assert min_size > max_size
        self.resolve()

    @rule()
    def suspend(self) -> None:
        self.pool.suspend()
        self.suspended = True

    @rule()
    def resume(self) -> None:
        self.pool.resume()
        self.suspended = False
        self.resolve()

    @rule()
    def clear_stats(self) -> None:
        self.pool.clear_stats()
        self.acquired = self.timeouts = self.rejected = 0

    def let_workers_work(self) -> None:
        """`drain` and `close` wait for workers: at the first wait they do what they have to."""

        def work() -> None:
            for _ in range(len(self.workers.jobs)):
                with suppress(*ENDS):
                    self.workers.work()

        self.harness.clock.meanwhile(work, work, work)

    @precondition(lambda self: not self.callers)
    @rule()
    def fork(self) -> None:
        """Go on as the child: with one thread, and nothing of what the parent has."""
        inherited = list(self.driver.connections)
        closes = [each.closes for each in inherited]
        leases = self.leases + self.dead
        self.workers.jobs.clear()
        self.pool._tasks.after_fork_in_child()
        assert not any(lease._current for lease in leases)
        assert [each.closes for each in inherited] == closes
        self.leases, self.dead = [], []
        self.driver.forget()
        self.acquired = self.timeouts = self.rejected = 0
        self.suspended = False

    # ---- what must be true ---------------------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        self.books_are_in_order()
        self.nobody_waits_for_nothing()
        self.leases_have_their_own_connections()
        self.numbers_add_up()
        assert not self.betrayed
        assert self.driver.faults == []

    def books_are_in_order(self) -> None:
        state, stats = self.pool._state, self.pool.stats()
        states = [record.state for record in state.records]
        assert stats.size == stats.connecting + stats.idle + stats.leased
        assert stats.connecting == states.count(State.CONNECTING)
        assert stats.idle == states.count(State.IDLE)
        assert stats.leased == states.count(State.LEASED)
        assert len(set(state.idle)) == len(state.idle)
        assert state.records.issuperset(state.idle)
        assert stats.size <= stats.max_size or not stats.idle
        assert self.outdated.isdisjoint(record.connection.number for record in state.idle)
        assert 0 <= state.opening <= stats.connecting
        assert (stats.closed, stats.suspended) == (self.closed, self.suspended)

    def nobody_waits_for_nothing(self) -> None:
        stats = self.pool.stats()
        assert stats.waiting == len(self.callers)
        assert not stats.idle or stats.suspended or stats.waiting <= stats.connecting

    def leases_have_their_own_connections(self) -> None:
        held = self.leases + [lease for lease in self.dead if lease._current]
        assert all(lease._current for lease in self.leases)
        assert len({lease.connection.number for lease in held}) == len(held)
        assert not any(lease.connection.closes for lease in held)
        assert self.pool.stats().leased >= len(held)

    def numbers_add_up(self) -> None:
        stats = self.pool.stats()
        assert (stats.acquired, stats.timeouts, stats.rejected) == (
            self.acquired,
            self.timeouts,
            self.rejected,
        )

    def teardown(self) -> None:
        try:
            self.end_well()
        finally:
            gc.unfreeze()

    def end_well(self) -> None:
        """Let everything come to its end, and see that nothing is left."""
        self.driver._plans.clear()
        if self.close_early:
            self.close()
        self.pool.resume()
        self.leases.clear()
        self.dead.clear()
        for _ in range(20):
            gc.collect(0)
            self.let_others_work()
            self.resolve()
            self.leases.clear()
        assert not self.callers
        stats = self.pool.stats()
        assert (stats.leased, stats.connecting, stats.waiting) == (0, 0, 0)
        self.close()
        self.let_others_work()
        assert self.pool.stats().size == 0
        assert self.driver.open == []
        assert self.driver.faults == []

    def close(self) -> None:
        """Close the pool, perhaps with leases out and callers waiting; it serves nobody more."""
        self.let_workers_work()
        self.closed = True
        self.pool.close()
        self.pool.close()
        self.harness.clock._meanwhile.clear()
        self.resolve()
        assert not self.callers
        with pytest.raises(PoolClosed):
            self.pool.acquire()
        assert not self.pool.stats().idle

    def let_others_work(self) -> None:
        while self.workers.jobs:
            with suppress(*ENDS):
                self.workers.work()
        self.pool._state.backoff.error = None  # its traceback holds frames, and those hold leases
        gc.collect()
        self.pool._tasks.maintain()  # which comes by itself after half a minute, if nobody waits
        self.harness.pass_time(1.0)


PoolMachine.TestCase.settings = settings(
    derandomize=True,
    max_examples=MOST_EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    database=None,
    print_blob=False,
    # Shortening takes minutes, for somebody who wants to know.
    phases=[Phase.generate, *([Phase.shrink] if "POOLING_SHRINK" in os.environ else [])],
    suppress_health_check=list(HealthCheck),
)
TestPool: Any = PoolMachine.TestCase
"""Scenarios 1, 3, 6, 9, 10, 12, 13, 15, 32, 36, 37, 40, 43, 44, 45, 46 and 48 in all orders."""
