"""The load: clients that take connections, work and measure, as threads or as asyncio tasks."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from .measurements import PhaseReport, Samples, TrialReport, describe_error
from .statements import known_users, new_users

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from .adapters.base import PoolAdapter
    from .measurements import Trial
    from .statements import Action, BenchUser
    from .workloads import Phase

# A client pauses after a failed operation, as one does that sends its next request: otherwise a
# pool that refuses at once would be asked a million times.
PAUSE_AFTER_ERROR = 0.002
# How much longer than the pool's timeout `exhaustion` waits for its last caller.
GRACE = 2.0
# Users made up before a trial that ends by the clock, for each client; more are made as needed.
PREPARED = 100
# An overloaded contender is given up when it needs so many times the planned time.
OVERTIME = 2.0


class LoadError(RuntimeError):
    """A client failed outside of its operations; the message says how."""


class Client:
    """What one thread or task does in a trial: which actions, and on which users.

    Making up users takes time that has nothing to do with connections, so those that are surely
    needed are made before the clock starts.
    """

    def __init__(self, trial: Trial, number: int, clients: int) -> None:
        self._trial = trial
        self.number, self._clients = number, clients
        self._random = random.Random(f"{trial.seed}-{number}")
        self._users = new_users(f"{trial.seed}-{number}")
        phases = trial.workload.phases
        self._share = max(1, round(trial.iterations / clients / len(phases)))
        if trial.workload.kind != "steady":
            self._share = 1
        self._inserts = any(phase.action == "insert" for phase in phases)
        few = PREPARED if trial.seconds else self._share
        self._new = list(islice(self._users, few if self._inserts else 0))
        self._known = known_users()
        for pk, user in enumerate(self._known, start=1):
            user.pk = pk
        self._inserted: list[BenchUser] = []
        self.missed = 0

    def operations(self, phase: Phase) -> Iterator[tuple[float | None, Action, BenchUser | None]]:
        """Yield when an operation is due, its action and its user.

        None is due when the one before is done, unless the trial has a rate. The share ends it, or
        the clock.
        """
        trial, begin, number = self._trial, perf_counter(), 0
        seconds = trial.seconds and trial.seconds / len(trial.workload.phases)
        due = None
        while True:
            if trial.rate:
                due = begin + (number * self._clients + self.number) / trial.rate
            now = perf_counter()
            if seconds:
                if (due or now) >= begin + seconds:
                    return
                if now >= begin + seconds * OVERTIME:
                    left = (begin + seconds - (due or now)) * (trial.rate or 0) / self._clients
                    self.missed += round(left)
                    return
            elif number >= self._share:
                return
            if (operation := self._operation(phase, number)) is None:
                return
            yield due, *operation
            number += 1

    def succeeded(self, action: Action, user: BenchUser | None) -> None:
        """Note that an action has been done."""
        if action == "insert" and user is not None:
            self._inserted.append(user)

    def _operation(self, phase: Phase, number: int) -> tuple[Action, BenchUser | None] | None:
        """Return an action and its user, or None if there is nothing left to do."""
        action = phase.action
        if action in ("trivial", "first", "own"):
            return action, None
        if action == "insert":
            return action, self._new[number] if number < len(self._new) else next(self._users)
        if not self._inserts:
            return action, self._random.choice(self._known)
        if action == "delete":
            return (action, self._inserted[number]) if number < len(self._inserted) else None
        return (action, self._inserted[number % len(self._inserted)]) if self._inserted else None


class Load(ABC):
    """Clients that stay for several trials: persistent connections belong to threads.

    Args:
        adapter: how they get connections.
        size: how many clients there are.
    """

    def __init__(self, adapter: PoolAdapter, size: int) -> None:
        self._adapter = adapter
        self._size = size
        self._runner = asyncio.Runner()

    def run(self, trial: Trial) -> TrialReport:
        """Run a trial.

        Raises:
            LoadError: a client failed outside of its operations.
        """
        exhaustion = trial.workload.kind == "exhaustion"
        return self._runner.run(self._exhaust() if exhaustion else self._run(trial))

    def close(self) -> None:
        """Let the clients close what they have, and end."""
        self._runner.close()

    @abstractmethod
    def _call(self, client: int, function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        """Call a function of the adapter in one of the threads, or in a task."""

    @abstractmethod
    def _start(self, client: int, coroutine: Coroutine[Any, Any, None]) -> Awaitable[None]:
        """Run a client's part of a phase; all clients begin together."""

    @abstractmethod
    async def _sleep(self, seconds: float) -> None:
        """Let a client pause."""

    async def _run(self, trial: Trial) -> TrialReport:
        clients = [Client(trial, number, self._size) for number in range(self._size)]
        reports = {}
        for phase in trial.workload.phases:
            samples = [Samples() for _ in clients]
            parts = [
                self._start(number, self._work(client, phase, samples[number]))
                for number, client in enumerate(clients)
            ]
            before = process_time()
            for failed in await asyncio.gather(*parts, return_exceptions=True):
                if failed is not None:
                    raise failed
            reports[phase.operation] = PhaseReport.of(
                samples, process_time() - before, by_time=trial.seconds is not None
            )
        return TrialReport(reports)

    async def _work(self, client: Client, phase: Phase, samples: Samples) -> None:
        """Do one client's operations of a phase. In a thread, nothing here ever suspends."""
        acquire, release = self._adapter.acquire, self._adapter.release
        perform, is_async = self._adapter.perform, self._adapter.is_async
        if phase.pause:  # users do not act in step, and clients that began together would
            await self._sleep(phase.pause * client.number / self._size)
        samples.begin = perf_counter()
        for due, action, user in client.operations(phase):
            begin = perf_counter()
            if due is not None and due > begin:
                await self._sleep(due - begin)
                begin = perf_counter()
            try:
                connection = (await acquire()) if is_async else acquire()
                acquired = perf_counter()
                try:
                    done = perform(action, connection, user)
                    if is_async:
                        await done
                    if phase.pause:
                        await self._sleep(phase.pause)
                    if phase.then:
                        done = perform(phase.then, connection, user)
                        if is_async:
                            await done
                finally:
                    released = release(connection)
                    if is_async:
                        await released
            except Exception as error:
                samples.errors[describe_error(error)] += 1
                await self._sleep(PAUSE_AFTER_ERROR)
                continue
            samples.latencies.append(perf_counter() - (begin if due is None else due))
            samples.acquiring += acquired - begin
            client.succeeded(action, user)
        samples.end = perf_counter()
        if client.missed:
            samples.errors["overloaded: due, and never begun"] += client.missed
            client.missed = 0

    async def _exhaust(self) -> TrialReport:
        """Let all clients but the last hold a connection, then let the last one ask for one."""
        acquire, release = self._adapter.acquire, self._adapter.release
        limit = self._adapter.config.timeout + GRACE
        held: dict[int, Any] = {}
        samples = Samples()
        try:
            for client in range(self._size - 1):
                held[client] = await self._call(client, acquire)
            samples.begin = perf_counter()
            asking = asyncio.ensure_future(self._call(self._size - 1, acquire))
            await asyncio.wait([asking], timeout=limit)
            note = "the last caller got a connection"
            if not asking.done():  # it waits for ever, unless a connection is returned
                await self._call(0, release, held.pop(0))
                await asyncio.wait([asking])
                note = "the last caller waited until a connection was given back"
            samples.end = perf_counter()
            samples.latencies.append(samples.end - samples.begin)
            if (error := asking.exception()) is None:
                held[self._size - 1] = asking.result()
            else:
                samples.errors[describe_error(error)] += 1
                note = f"the last caller got {describe_error(error)}"
            note += f" (after {samples.latencies[0]:.3f} s)"
            if error is not None:
                begin = perf_counter()
                await self._call(0, release, held.pop(0))
                try:
                    held[self._size - 1] = await self._call(self._size - 1, acquire)
                    note += f"; after a release it was served in {perf_counter() - begin:.4f} s"
                except Exception as again:
                    note += f"; after a release it got {describe_error(again)}"
        finally:
            for client, connection in held.items():
                await self._call(client, release, connection)
        return TrialReport({"exhaustion": PhaseReport.of([samples])}, note)


class ThreadLoad(Load):
    """Clients that are threads."""

    def __init__(self, adapter: PoolAdapter, size: int) -> None:
        super().__init__(adapter, size)
        self._barrier = threading.Barrier(size)
        self._threads = [
            ThreadPoolExecutor(1, thread_name_prefix=f"poolbench-{number}")
            for number in range(size)
        ]

    def close(self) -> None:
        for thread in self._threads:
            thread.submit(self._adapter.leave).result()
            thread.shutdown()
        super().close()

    def _call(self, client: int, function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._threads[client], function, *arguments)

    def _start(self, client: int, coroutine: Coroutine[Any, Any, None]) -> Awaitable[None]:
        def run() -> None:
            self._barrier.wait()
            try:
                coroutine.send(None)
            except StopIteration:
                return
            except BaseException as error:
                raise LoadError(describe_error(error)) from error
            raise LoadError("a client in a thread must not wait for an event loop")

        return self._call(client, run)

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class AsyncLoad(Load):
    """Clients that are tasks of one event loop; the adapter's methods are coroutines."""

    def __init__(self, adapter: Any, size: int) -> None:
        super().__init__(adapter, size)
        self._aclose = adapter.aclose
        self._runner.run(adapter.aopen())

    def close(self) -> None:
        self._runner.run(self._aclose())
        super().close()

    async def _call(self, _client: int, function: Callable[..., Any], *arguments: Any) -> Any:
        return await function(*arguments)

    def _start(self, _client: int, coroutine: Coroutine[Any, Any, None]) -> Awaitable[None]:
        return asyncio.ensure_future(coroutine)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
