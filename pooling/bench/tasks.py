"""What `crew` does with threads, with tasks in one event loop."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .client import PAUSE_AFTER_ERROR, Client
from .load import PATIENCE, exhausted
from .measurements import PhaseReport, Tally, TurnReport, describe_error

if TYPE_CHECKING:
    from .measurements import Turn
    from .workloads import Phase


class TaskCrew:
    """Tasks that ask for connections and take the times.

    Args:
        way: how they get connections; its methods are coroutines.
        size: how many there are.
    """

    def __init__(self, way: Any, size: int) -> None:
        self._way = way
        self._size = size
        self._runner = asyncio.Runner()
        self._runner.run(way.open())

    def work(self, turn: Turn) -> TurnReport:
        """Do a turn and return what came of it."""
        if turn.workload.kind == "exhaustion":
            return self._runner.run(self._exhaust())
        return self._runner.run(self._work(turn))

    def close(self) -> None:
        """Close the pool; nothing is left for the way to close."""
        self._runner.run(self._way.close())
        self._runner.close()

    async def _work(self, turn: Turn) -> TurnReport:
        statements = self._way.statements
        clients = [Client(statements, turn, each, self._size) for each in range(self._size)]
        reports = {}
        for phase in turn.workload.phases:
            tallies = [Tally() for _ in clients]
            async with asyncio.TaskGroup() as group:
                for client, tally in zip(clients, tallies, strict=True):
                    group.create_task(self._work_phase(client, phase, turn.workload.hold, tally))
            reports[phase.operation] = PhaseReport.of(tallies)
        return TurnReport(reports)

    async def _work_phase(self, client: Client, phase: Phase, hold: float, tally: Tally) -> None:
        acquire, release = self._way.acquire, self._way.release
        perform = self._way.statements.perform
        tally.begin = perf_counter()
        for act, user in client.operations(phase):
            begin = perf_counter()
            try:
                connection = await acquire()
                acquired = perf_counter()
                try:
                    await perform(act, connection, user)
                    if hold:
                        await asyncio.sleep(hold)
                finally:
                    await release(connection)
            except Exception as error:
                tally.errors[describe_error(error)] += 1
                await asyncio.sleep(PAUSE_AFTER_ERROR)
                continue
            tally.latencies.append(perf_counter() - begin)
            tally.acquiring += acquired - begin
            client.succeeded(act, user)
        tally.end = perf_counter()

    async def _exhaust(self) -> TurnReport:
        """Hold a connection for all tasks but the last, then let that one ask for one."""
        way, tally = self._way, Tally()
        patience = way.place.timeout + PATIENCE
        held = [await way.acquire() for _ in range(self._size - 1)]
        tally.begin = perf_counter()
        asking = asyncio.create_task(way.acquire())
        await asyncio.wait([asking], timeout=patience)
        if not asking.done():
            await way.release(held.pop())
            await asyncio.wait([asking])
        tally.end = perf_counter()
        tally.latencies.append(tally.end - tally.begin)
        error = asking.exception()
        if error is None:
            held.append(asking.result())
        else:
            tally.errors[describe_error(error)] += 1
        for connection in held:
            await way.release(connection)
        return exhausted(tally, patience)
