"""Every outcome of every call of the driver, under an interrupt at every line.

A caller takes a connection and gives it back. Each call that the driver gets on the way ends well,
fails, is slow (others do things meanwhile) or does not return before the caller's time is up. All
combinations are tried, except those whose calls do not take place; `test_every_opcode.py` has fewer
scenarios in finer steps.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pooling.core.errors import PoolError
from pooling.core.state import TaskKind
from tests.support.fakes import (
    FakeConnection,
    FakeOperationalError,
    RefusedError,
    WrongPasswordError,
)
from tests.support.injection import (
    InjectionHarness,
    UntracedWorkers,
    interrupt_everywhere,
    untraced,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

OUTCOMES = {
    "is_alive": ("ok", "error", "doubt"),
    "ping": ("ok", "error", "slow", "never"),
    "connect": ("ok", "error", "wrong", "slow", "never"),
    "reset": ("ok", "error", "slow"),
    "close": ("ok", "error", "never"),
}
"""`is_alive` does not block; `reset` is done by the caller itself, whom nobody could help if it
never returned; nobody waits for a `close`, so a slow one is one that did not return in time."""

METHODS = {
    TaskKind.OPEN: "connect",
    TaskKind.PING: "ping",
    TaskKind.RECOVER: "reset",
    TaskKind.CLOSE: "close",
}

ERRORS: dict[str, type[Exception]] = {"connect": RefusedError}


class SlowWorkers(UntracedWorkers):
    """Workers of whom one does not return in time."""

    def __init__(self) -> None:
        super().__init__()
        self.injection: InjectionHarness | None = None
        self.never: set[str] = set()
        self.hanging: list[Callable[[], None]] = []

    def run(self, job: Callable[[], None]) -> None:
        pending = self.injection.pool._state.pending if self.injection else ()
        method = METHODS[pending[0].kind] if pending else ""
        if method in self.never:
            self.never.discard(method)
            self.hanging.append(job)
        else:
            super().run(job)

    def return_at_last(self) -> None:
        jobs, self.hanging = self.hanging, []
        for job in jobs:
            untraced(job)


class Story:
    """A caller that takes a connection and gives it back, with one combination of outcomes."""

    def __init__(self, outcomes: dict[str, str], *, warm: bool) -> None:
        self.outcomes = outcomes
        self.warm = warm
        self.happened: set[str] = set()
        """The calls that have been made, as methods."""

    def make(self, strike_at: int) -> InjectionHarness:
        """Make a harness whose workers may hang."""
        workers = SlowWorkers()
        injection = InjectionHarness(strike_at, event="line", workers=workers)
        workers.injection = injection
        return injection

    def __call__(self, injection: InjectionHarness) -> None:
        workers: Any = injection.harness.workers
        if self.warm:
            injection.warm()
        self.plan(injection)
        workers.never = {method for method, how in self.outcomes.items() if how == "never"}
        hanging = set(workers.never)
        injection.meanwhile(*[lambda: injection.harness.pass_time(0.5)] * 4)
        injection.strike(
            lambda: injection.pool.acquire().release(), PoolError, FakeOperationalError
        )
        self.happened |= hanging - workers.never
        injection.clock._meanwhile.clear()
        injection.driver._plans.clear()
        workers.never = set()
        workers.return_at_last()
        injection.let_others_work()

    def plan(self, injection: InjectionHarness) -> None:
        """Have the driver do as the outcomes say, once."""
        for method, outcome in self.outcomes.items():
            if outcome == "doubt":
                for connection in injection.driver.open:
                    connection.readable = True
                    self.happened.add(method)
            elif outcome != "ok":
                injection.driver.plan(method, partial(self.do, injection, method, outcome))

    def do(
        self,
        injection: InjectionHarness,
        method: str,
        outcome: str,
        connection: FakeConnection | None,
    ) -> None:
        """Be a call of the driver."""
        self.happened.add(method)
        if outcome == "error":
            raise ERRORS.get(method, FakeOperationalError)
        if outcome == "wrong":
            raise WrongPasswordError
        if outcome == "slow":
            untraced(lambda: others(injection))

    def is_told(self) -> bool:
        """Tell whether everything in it happens, if nothing is interrupted."""
        injection = self.make(0)
        self(injection)
        assert injection.check() == [], self.outcomes
        return all(how == "ok" or method in self.happened for method, how in self.outcomes.items())


def others(injection: InjectionHarness) -> None:
    """What happens while a call is slow: time passes, and somebody else wants a connection."""
    injection.harness.pass_time(1.5)
    with suppress(PoolError, FakeOperationalError):
        injection.pool.acquire(timeout=0).release()


def interrupt_all(first: dict[str, str], *, warm: bool) -> None:
    """Try all outcomes of those calls that `first` does not mention."""
    methods = [method for method in OUTCOMES if method not in first]
    told = 0
    for outcomes in itertools.product(*(OUTCOMES[method] for method in methods)):
        scenario = Story({**first, **dict(zip(methods, outcomes, strict=True))}, warm=warm)
        if scenario.is_told():
            told += 1
            try:
                interrupt_everywhere(scenario, scenario.make, at_least=20)
            except AssertionError as error:
                raise AssertionError(f"{scenario.outcomes}: {error}") from None
    assert told


def test_all_outcomes_of_a_cold_pool() -> None:
    interrupt_all({"is_alive": "ok", "ping": "ok"}, warm=False)


def test_all_outcomes_of_a_connection_that_is_alive() -> None:
    interrupt_all({"is_alive": "ok", "ping": "ok"}, warm=True)


@pytest.mark.parametrize("ping", OUTCOMES["ping"])
def test_all_outcomes_of_a_connection_in_doubt(ping: str) -> None:
    interrupt_all({"is_alive": "doubt", "ping": ping}, warm=True)


def test_all_outcomes_of_a_connection_that_cannot_be_tested() -> None:
    """From the ping on it is as if it were in doubt."""
    interrupt_all({"is_alive": "error", "ping": "ok", "connect": "ok"}, warm=True)
