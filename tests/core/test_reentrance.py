"""Code of others that runs in the middle of the pool's own (scenario 11).

The garbage collector may run anybody's finaliser, and Python anybody's signal handler, at nearly
any bytecode, also at one where this very thread holds the pool's lock. If such code uses the same
pool, an ordinary lock would let it wait for itself for ever.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from pooling.core.errors import PoolError
from tests.support.injection import CORE, SIZE, InjectionHarness, every_step, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


class Intruder:
    """Calls a function before the nth bytecode of the core, like the collector a finaliser."""

    def __init__(self, strike_at: int, act: Callable[[], None]) -> None:
        self.left = strike_at
        self.where: str | None = None
        self._act = act

    def watch(self, scenario: Callable[[], None]) -> None:
        sys.settrace(self._enter)
        try:
            scenario()
        finally:
            sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(str(CORE)):
            return None
        frame.f_trace = self._step  # Python 3.13 wants this one first
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode" and frame.f_lasti not in unreachable(frame.f_code):
            self.left -= 1
            if self.left == 0:
                self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
                self._act()
        return self._step


def use(injection: InjectionHarness) -> None:
    injection.pool.acquire(timeout=0).release()


def give_back(injection: InjectionHarness) -> None:
    injection.leases.pop().release()


def throw_away(injection: InjectionHarness) -> None:
    injection.leases.pop().discard()


def look(injection: InjectionHarness) -> None:
    injection.pool.stats()
    injection.pool.holders()
    repr(injection.pool)


@pytest.mark.parametrize("act", [use, give_back, throw_away, look])
def test_a_finaliser_that_uses_the_pool_neither_hangs_nor_confuses_it(
    act: Callable[[InjectionHarness], None],
) -> None:
    """It succeeds, or it is told with a clear error that this is not the moment."""
    told = []

    def once(strike_at: int) -> str | None:
        injection = InjectionHarness(0)
        injection.warm(SIZE)
        injection.hold()

        def finalise() -> None:
            # What a finaliser raises is swallowed by Python.
            try:
                act(injection)
            except PoolError as error:
                told.append(str(error))

        reentrant_use = Intruder(strike_at, finalise)
        reentrant_use.watch(lambda: injection.pool.acquire().release())
        assert injection.check() == [], reentrant_use.where
        return reentrant_use.where

    every_step(once)
    if act is use:  # the others can be done, or be written down to be done, at any moment
        assert any("finaliser" in words for words in told), "it was never in the way"
