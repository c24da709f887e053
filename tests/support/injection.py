"""Interrupts at every bytecode, one after the other, and what a pool must be like after each.

A *scenario* is a function of an `InjectionHarness`: it prepares something, and has the harness
`strike` at one act. The first time the act is interrupted before its first bytecode in
`pooling.core`, then, in a new harness, before its second one, and so on until the act ends.

**Where an interrupt can strike.** CPython looks for signals and asynchronous exceptions when a
function begins, when a loop jumps back, and when a call returns (`eval_breaker` in
`Python/ceval.c`). A trace function strikes before any bytecode at all, which is stricter, with one
exception: leaving a `with` block begins with bytecodes that are no longer protected by the block
and have not called `__exit__` yet. CPython does not look for signals there, since none of them
begins, jumps back or returns; if it did, no `with` statement at all would be safe. Likewise the
bytecodes with which the interpreter itself enters and leaves an exception handler. These, and
`NOP`s, which do nothing, are left out.
"""

from __future__ import annotations

import dis
import functools
import gc
import logging
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pooling.core
from pooling.core.connection import State
from tests.support.fakes import (
    FakeConnection,
    FakeDriver,
    InlineWorkers,
    ManualWorkers,
    PoolHarness,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from pooling.core.connection import Lease
    from pooling.core.worker_threads import Workers

CORE = Path(pooling.core.__file__).parent
MOST = 20_000
"""More bytecodes than any act has."""
SHOWN = 10
"""How many of the bytecodes with losses a failure tells of."""
SIZE = 2
"""`max_size` of the pools in the scenarios."""


# Python 3.12 delivers the events of bytecodes only if some frame had asked for them before the
# trace function was set.
sys._getframe().f_trace_opcodes = True


BOOKKEEPING = {"NOP", "CACHE", "PUSH_EXC_INFO", "POP_EXCEPT"}
"""What does nothing, or enters and leaves exception handlers."""


@functools.cache
def unreachable(code: CodeType) -> frozenset[int]:
    """Return the offsets at which no interrupt can strike, though a trace function can."""
    instructions = list(dis.get_instructions(code))
    names = [each.opname for each in instructions]
    found = {at for at, name in enumerate(names) if name in BOOKKEEPING}
    found |= {  # signals are looked for after calls, not after a variable was loaded
        at for at, name in enumerate(names) if name == "RETURN_VALUE" and "LOAD" in names[at - 1]
    }
    for at in range(len(instructions)):
        if names[at : at + 3] == ["COPY", "POP_EXCEPT", "RERAISE"]:
            found.update((at, at + 1, at + 2))
        if _leaves_with(instructions[at : at + 5]):
            found.update(range(at, names.index("CALL", at) + 1))
            while names[at - 1] in ("SWAP", "NOP"):  # a value to return is put out of the way
                at -= 1
                found.add(at)
    return frozenset(instructions[at].offset for at in found)


def _leaves_with(instructions: list[dis.Instruction]) -> bool:
    """Tell whether this is `__exit__` called with three times None: the block ended well."""
    nones, rest = instructions[:3], [each.opname for each in instructions[3:]]
    return (
        len(nones) == 3
        and all(each.opname == "LOAD_CONST" and each.argval is None for each in nones)
        and rest in (["PRECALL", "CALL"], ["CALL", "POP_TOP"])
    )


class Interrupter:
    """Raises `error` at the nth bytecode, or line, that is run in `folders` while it is active.

    It strikes in the thread that enters it, and there once.
    """

    def __init__(
        self,
        strike_at: int,
        *,
        error: type[BaseException] = KeyboardInterrupt,
        event: str = "opcode",
        folders: tuple[Path, ...] = (CORE,),
    ) -> None:
        self.left = strike_at
        self.where: str | None = None
        """Where it struck, if it did."""
        self._error = error
        self._event = event
        self._folders = tuple(map(str, folders))
        self._outside = sys.gettrace()

    def __enter__(self) -> Self:
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._outside)

    def trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._folders):
            return None
        if self._event == "opcode":
            frame.f_trace = self._step  # Python 3.13 wants this one first
            frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == self._event and frame.f_lasti not in unreachable(frame.f_code):
            self.left -= 1
            if self.left == 0:
                code = frame.f_code
                name = Path(code.co_filename).name
                self.where = f"{name}:{frame.f_lineno} ({code.co_qualname}, {frame.f_lasti})"
                sys.settrace(self._outside)
                raise self._error
        return self._step


class UntracedWorkers(InlineWorkers):
    """Workers whose jobs, like those of other threads, no interrupt of this thread reaches."""

    def run(self, job: Callable[[], None]) -> None:
        untraced(job)


def untraced(act: Callable[[], object]) -> None:
    """Do what another thread would do: no interrupt of this thread reaches it."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        act()
    finally:
        sys.settrace(trace)


class CollectedDriver(FakeDriver):
    """A driver whose connections, like real ones, are closed when nobody knows them any more."""

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Begin anew: what was opened so far is somebody else's."""
        self.connections = _Known()  # type: ignore[assignment]


class _Known:
    """The part of a list that its owner may forget."""

    def __init__(self) -> None:
        self._references: list[weakref.ref[FakeConnection]] = []

    def append(self, connection: FakeConnection) -> None:
        self._references.append(weakref.ref(connection))

    def __iter__(self) -> Iterator[FakeConnection]:
        found = (reference() for reference in self._references)
        return iter([each for each in found if each is not None])

    def __len__(self) -> int:
        return len(self._references)


class InjectionHarness:
    """A harness with a pool, in which one act is interrupted.

    Args:
        strike_at: before which bytecode (or line).
        workers: None means workers that do their jobs at once, and are not interrupted.
    """

    def __init__(
        self,
        strike_at: int,
        *,
        error: type[BaseException] = KeyboardInterrupt,
        event: str = "opcode",
        workers: Workers | None = None,
        **options: Any,
    ) -> None:
        self.harness = PoolHarness(UntracedWorkers() if workers is None else workers)
        self.harness.driver = self.driver = CollectedDriver()
        self.clock = self.harness.clock
        self.pool = self.harness.pool(**{"max_size": SIZE, **options})
        self.interrupter = Interrupter(strike_at, error=error, event=event)
        self.error = error
        self.losses: list[str] = []
        self.uncounted = 1
        """How many events the counters may miss: the one that was interrupted as it was counted.
        The numbers of this instant, how many are idle, leased and so on, are always exact."""
        self.leases: list[Lease[FakeConnection]] = []
        """What a scenario holds on to: released, if still current, before the pool is looked at."""

    @property
    def struck(self) -> bool:
        return self.interrupter.where is not None

    # ---- for scenarios ---------------------------------------------------------------------------

    def strike(self, act: Callable[[], object], *expected: type[Exception]) -> None:
        """Do `act`, and interrupt it. It may also fail in the ways that are `expected`."""
        with self.interrupter:
            try:
                act()
            except self.error:
                if not self.struck:
                    raise
            except expected:
                pass
            except Exception as error:
                self.losses.append(f"the interrupt turned into {error!r}")

    def hold(self) -> Lease[FakeConnection]:
        """Lease a connection that stays leased until the scenario is over."""
        lease = self.pool.acquire()
        self.leases.append(lease)
        return lease

    def warm(self, number: int = 1) -> None:
        """Leave so many idle connections."""
        for lease in [self.pool.acquire() for _ in range(number)]:
            lease.release()

    def meanwhile(self, *actions: Callable[[], object]) -> None:
        """Have others do something, each at the next wait of this thread."""
        self.clock.meanwhile(*[functools.partial(untraced, action) for action in actions])

    def while_another_waits(self, act: Callable[[], object]) -> None:
        """Do `act` while another caller waits for a connection, who must be served in the end.

        In one thread: it waits, and while it does, it does everything else. What ends a worker in
        `connect`, a `SystemExit` in somebody's hook for instance, is the waiting caller's error;
        then this one tries again.
        """
        self.clock.meanwhile(act, *self.patience())
        try:
            try:
                self.pool.acquire(timeout=60.0).release()
            except self.error:
                if not self.struck:
                    raise
                self.pool.acquire(timeout=60.0).release()
        except Exception as error:
            self.losses.append(f"somebody else was not served: {error!r}")
        finally:
            self.clock._meanwhile.clear()

    def patience(self) -> list[Callable[[], None]]:
        """Return what happens while somebody waits: maintenance comes, workers work."""
        return [self.let_others_work] * 12

    def let_others_work(self) -> None:
        self.work()
        self.harness.pass_time(0.5)
        self.work()

    def work(self) -> None:
        """Do what the workers have to do at the moment, in this thread."""
        if isinstance(self.harness.workers, ManualWorkers):
            self.harness.workers.work_all()

    # ---- afterwards ----------------------------------------------------------------------------

    def check(self) -> list[str]:
        """Say what is wrong with the pool, now that nobody uses it any more."""
        if not lock_is_free(self.pool):
            return [*self.losses, "the pool's lock is held for ever"]
        self.clock._meanwhile.clear()
        self.driver._plans.clear()
        for lease in self.leases:
            if lease._current:
                lease.release()
        self.leases.clear()
        gc.collect()
        if not self.pool.closed:
            self._use_all()
            self._use_all()
            self.losses += self.disorder()
        self.pool.close()
        gc.collect()
        self.let_others_work()
        self.let_others_work()
        if self.driver.open:
            self.losses.append(f"{self.driver.open} left open after close: {self.pool!r}")
        if self.pool.stats().size:
            self.losses.append(f"something is left after close: {self.pool!r}")
        return self.losses + self._faults()

    def _faults(self) -> list[str]:
        """Return the breaches of the driver's contract.

        What a worker that was killed had just closed is closed once more, which does no harm.
        """
        faults = self.driver.faults
        if self.struck and isinstance(self.harness.workers, ManualWorkers):
            faults = [fault for fault in faults if "closed again" not in fault]
        return faults

    def _use_all(self) -> None:
        """Acquire as many as there may be, at the same time, without help but that of time."""
        leases = []
        for _ in range(self.pool.config.max_size):
            self.clock.meanwhile(*self.patience())
            try:
                leases.append(self.pool.acquire())
            except Exception as error:
                self.losses.append(f"a following acquire failed: {error}")
            self.clock._meanwhile.clear()
        current = [lease for lease in leases if lease._current]
        if len(current) < len(leases):
            self.losses.append("a lease was over before its end")
        if len({id(lease.connection) for lease in current}) != len(current):
            self.losses.append("two leases have the same connection")
        for lease in current:
            lease.release()
        self.let_others_work()

    def disorder(self) -> list[str]:
        """Say in which way the state of a pool at rest is wrong."""
        stats, state = self.pool.stats(), self.pool._state
        found = []
        if (stats.leased, stats.connecting, stats.waiting) != (0, 0, 0):
            found.append(f"not at rest: {self.pool!r}")
        if stats.size != stats.idle or stats.size > stats.max_size:
            found.append(f"miscounted: {self.pool!r}")
        if set(state.idle) != state.records or len(set(state.idle)) != len(state.idle):
            found.append(f"idle={list(state.idle)} records={state.records}")
        if any(record.state is not State.IDLE for record in state.records):
            found.append(f"not idle: {state.records}")
        if state.opening or state.stalled or state.pending:
            found.append(f"opening={state.opening} stalled={state.stalled} pending={state.pending}")
        if len(self.driver.open) != stats.size:
            found.append(f"open={self.driver.open}, but {self.pool!r}")
        if abs(stats.connects - stats.size - sum(stats.discards.values())) > self.uncounted:
            found.append(f"the counters do not add up: {stats}")
        return found


def _swallow(unraisable: object) -> None:
    """Take note of an interrupt in a finaliser like Python does, only that nothing is printed."""


def lock_is_free(pool: Any) -> bool:
    """Tell whether no thread, this one included, holds the pool's lock."""
    lock = pool._lock
    if hasattr(lock, "_is_owned"):  # an RLock
        return not lock._is_owned()
    return not lock.locked()


def interrupt_everywhere(
    scenario: Callable[[InjectionHarness], None],
    make: Callable[[int], InjectionHarness],
    *,
    at_least: int,
) -> None:
    """Run a scenario again and again, each time interrupted at the next bytecode.

    Args:
        make: makes the injection whose act is interrupted at the nth bytecode.
        at_least: so many bytecodes the act has, or it is not what it was meant to be.
    """

    def once(strike_at: int) -> str | None:
        injection = make(strike_at)
        scenario(injection)
        losses = injection.check()
        assert injection.struck or not losses, f"even without an interrupt: {losses}"
        if losses:
            report.append(f"{injection.interrupter.where}: {'; '.join(losses)}")
        return injection.interrupter.where

    report: list[str] = []
    steps = every_step(once)
    assert steps >= at_least, f"the act has only {steps} steps"
    assert not report, f"{len(report)} of {steps}:\n" + "\n".join(report[:SHOWN])


def everywhere(
    test: Callable[[Interrupter], None],
    *,
    error: type[BaseException] = KeyboardInterrupt,
    event: str = "opcode",
    folders: tuple[Path, ...] = (CORE,),
    at_least: int,
    most_failures: int = SHOWN,
) -> None:
    """Do a test again and again, with an interrupt at one bytecode after the other.

    Args:
        most_failures: after so many it ends, since a failure may take its time.
    """

    def once(strike_at: int) -> str | None:
        interrupter = Interrupter(strike_at, error=error, event=event, folders=folders)
        try:
            test(interrupter)
        except (Exception, error) as failure:
            if interrupter.where is None:
                raise
            report.append(f"{interrupter.where}: {type(failure).__name__}: {failure}")
        return interrupter.where if len(report) < most_failures else None

    report: list[str] = []
    steps = every_step(once)
    assert not report, f"{len(report)} of {steps} at least:\n" + "\n".join(report)
    assert steps >= at_least, f"the act has only {steps} steps"


def every_step(once: Callable[[int], str | None]) -> int:
    """Call `once` with 1, 2 and so on, until it comes to no interrupt; return how many it took."""
    outside, sys.unraisablehook = sys.unraisablehook, _swallow
    logging.disable()  # what is said of thousands of accidents is nobody's concern
    gc.collect()
    gc.freeze()  # spares the collector what other tests left, thousands of times
    try:
        for strike_at in range(1, MOST):
            where = once(strike_at)
            assert sys.exc_info()[0] is None, f"strike at {where} confused the interpreter"
            if where is None:
                return strike_at - 1
    finally:
        gc.unfreeze()
        logging.disable(logging.NOTSET)
        sys.unraisablehook = outside
    raise AssertionError(f"the act has more than {MOST} steps")
