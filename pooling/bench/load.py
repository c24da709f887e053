"""The threads of a contender's process: they ask for connections and take the times."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .client import PAUSE_AFTER_ERROR, Client
from .measurements import PhaseReport, Tally, TurnReport, describe_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from .measurements import Turn
    from .adapters.base import Way
    from .workloads import Phase

# How much longer than a pool's timeout the last caller of `exhaustion` is watched.
PATIENCE = 2.0


class CrewError(RuntimeError):
    """The threads could not do their work; the cause is what one of them raised."""


class Crew:
    """Threads that stay, because persistent connections belong to threads.

    Args:
        way: how they get connections.
        size: how many there are.
    """

    def __init__(self, way: Way, size: int) -> None:
        self._way = way
        self._jobs: list[SimpleQueue[Callable[[], None] | None]] = [
            SimpleQueue() for _ in range(size)
        ]
        self._threads = [
            threading.Thread(
                target=self._serve, args=(jobs,), name=f"poolbench-{number}", daemon=True
            )
            for number, jobs in enumerate(self._jobs)
        ]
        for thread in self._threads:
            thread.start()

    def work(self, turn: Turn) -> TurnReport:
        """Do a turn and return what came of it."""
        if turn.workload.kind == "exhaustion":
            return self._exhaust()
        size = len(self._jobs)
        clients = [Client(self._way.statements, turn, number, size) for number in range(size)]
        phases = turn.workload.phases
        tallies = {phase.operation: [Tally() for _ in clients] for phase in phases}
        barrier = threading.Barrier(size)

        def work_alone(number: int) -> None:
            for phase in phases:
                barrier.wait()
                tally = tallies[phase.operation][number]
                self._work_phase(clients[number], phase, turn.workload.hold, tally)

        self._run(work_alone, barrier.abort)
        return TurnReport({name: PhaseReport.of(each) for name, each in tallies.items()})

    def close(self) -> None:
        """Let the threads close what they have, and end."""
        for jobs in self._jobs:
            jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self, jobs: SimpleQueue[Callable[[], None] | None]) -> None:
        while (job := jobs.get()) is not None:
            job()
        self._way.leave()

    def _run(self, job: Callable[[int], None], cancel: Callable[[], None]) -> None:
        """Let every thread do a job, and wait for all of them."""
        errors: list[BaseException] = []
        done: SimpleQueue[None] = SimpleQueue()

        def guarded(number: int) -> None:
            try:
                job(number)
            except BaseException as error:
                errors.append(error)
                cancel()  # the others wait for somebody who will not come
            finally:
                done.put(None)

        for number, jobs in enumerate(self._jobs):
            jobs.put(lambda number=number: guarded(number))  # type: ignore[misc]
        for _ in self._jobs:
            done.get()
        if errors:
            raise CrewError(describe_error(errors[0])) from errors[0]

    def _work_phase(self, client: Client, phase: Phase, hold: float, tally: Tally) -> None:
        acquire, release = self._way.acquire, self._way.release
        perform = self._way.statements.perform
        tally.begin = perf_counter()
        for act, user in client.operations(phase):
            begin = perf_counter()
            try:
                connection = acquire()
                acquired = perf_counter()
                try:
                    perform(act, connection, user)
                    if hold:
                        time.sleep(hold)
                finally:
                    release(connection)
            except Exception as error:
                tally.errors[describe_error(error)] += 1
                time.sleep(PAUSE_AFTER_ERROR)
                continue
            tally.latencies.append(perf_counter() - begin)
            tally.acquiring += acquired - begin
            client.succeeded(act, user)
        tally.end = perf_counter()

    # ---- exhaustion ----------------------------------------------------------------------------

    def _exhaust(self) -> TurnReport:
        """Let all threads but the last hold a connection, then let the last one ask for one."""
        last = len(self._jobs) - 1
        held = threading.Barrier(last + 1)
        over = threading.Event()
        tally = Tally()
        patience = self._way.place.timeout + PATIENCE
        # Were it to wait for ever, the holders would let it go.
        alarm = threading.Timer(patience, over.set)

        def hold_or_ask(number: int) -> None:
            if number < last:
                connection = self._way.acquire()
                try:
                    held.wait()
                    over.wait()
                finally:
                    self._way.release(connection)
                return
            held.wait()
            alarm.start()
            tally.begin = perf_counter()
            try:
                self._ask(tally)
            finally:
                alarm.cancel()
                over.set()

        def cancel() -> None:
            held.abort()
            over.set()

        self._run(hold_or_ask, cancel)
        return exhausted(tally, patience)

    def _ask(self, tally: Tally) -> None:
        try:
            connection = self._way.acquire()
        except Exception as error:
            tally.end = perf_counter()
            tally.errors[describe_error(error)] += 1
        else:
            tally.end = perf_counter()
            self._way.release(connection)
        tally.latencies.append(tally.end - tally.begin)


def exhausted(tally: Tally, patience: float) -> TurnReport:
    """Say what the last caller saw, and when."""
    [seconds] = tally.latencies
    if tally.errors:
        [what] = tally.errors
        note = f"the last caller got {what}"
    elif seconds >= patience:
        note = "the last caller waited until a connection was given back"
    else:
        note = "the last caller got a connection"
    return TurnReport({"exhaustion": PhaseReport.of([tally])}, f"{note} (after {seconds:.3f} s)")


def new_crew(way: Way, size: int) -> Any:
    """Return what works with a way: threads, or tasks if that is what it is made for."""
    if way.uses_tasks:
        from .tasks import TaskCrew

        return TaskCrew(way, size)
    return Crew(way, size)
