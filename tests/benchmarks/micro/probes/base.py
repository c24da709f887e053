"""The interface of a probe."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from time import perf_counter, process_time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_TIMEOUT = 60.0


class Probe(ABC):
    """Something that can be measured again and again."""

    @abstractmethod
    def trial(self, number: int) -> dict[str, float]:
        """Do it `number` times; return what was measured, by name."""

    def close(self) -> None:  # noqa: B027 - most have nothing to do
        """Clear away."""


class LoopProbe(Probe):
    """Something small that is done many times in a row, by one thread or by several at once.

    The loop is the subclass's own, so that nothing but what is measured is in it.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    @abstractmethod
    def loop(self, number: int) -> None:
        """Do it `number` times."""

    def trial(self, number: int) -> dict[str, float]:
        """Return the seconds that each took, all threads together, and the processor's part."""
        before = process_time()
        if self.threads == 1:
            begin = perf_counter()
            self.loop(number)
            seconds = perf_counter() - begin
        else:
            share = max(number // self.threads, 1)
            number = share * self.threads
            seconds = in_threads(self.threads, lambda: self.loop(share))
        return {"seconds": seconds / number, "processor": (process_time() - before) / number}


def in_threads(number: int, job: Callable[[], None]) -> float:
    """Do a job in so many threads at once; return the seconds from the first to the last."""
    ready = threading.Barrier(number + 1)
    errors: list[BaseException] = []
    ends: list[float] = []

    def run() -> None:
        ready.wait(WAIT_TIMEOUT)
        try:
            job()
        except BaseException as error:
            errors.append(error)
        ends.append(perf_counter())

    threads = [threading.Thread(target=run, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    begin = perf_counter()
    ready.wait(WAIT_TIMEOUT)
    for thread in threads:
        thread.join(WAIT_TIMEOUT)
    if errors:
        raise errors[0]
    if len(ends) < number:
        raise RuntimeError(f"{number - len(ends)} of {number} threads do not end")
    return max(ends) - begin
