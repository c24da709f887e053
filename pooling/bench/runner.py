"""Runs the contenders in turns and takes the times."""

from __future__ import annotations

import gc
import logging
import math
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connections

from .contenders import CONTENDERS
from .workloads import WORKLOADS, Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .arenas import Arena, Side
    from .contenders import Contender
    from .workloads import Workload

TOTAL = "total"


class ContenderError(RuntimeError):
    """A contender could not do its work; the cause is what it raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        contenders: who takes part; the first is the baseline.
        workloads: what they do.
        rounds: how often each does it. The medians are taken over the rounds.
        iterations: operations of each kind in a round, shared out among the threads.
        threads: numbers of threads; everything is measured once for each.
        pool_size: `max_size` of the pools.
        seed: for the users' data.
    """

    contenders: tuple[Contender, ...] = CONTENDERS
    workloads: tuple[Workload, ...] = WORKLOADS
    rounds: int = 7
    iterations: int = 80
    threads: tuple[int, ...] = (1, 8)
    pool_size: int = 4
    seed: int = 1

    @property
    def turns(self) -> int:
        """The number of turns in one arena, the warm-up's included."""
        each = len(self.contenders) * len(self.workloads)
        return len(self.threads) * each * (self.rounds + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What is about to be run, for whoever watches. Round 0 is the warm-up."""

    arena: str
    contender: str
    workload: str
    threads: int
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The times of one contender for one operation.

    Attributes:
        seconds: wall-clock time per operation, one entry for each round. With several threads they
            work at the same time, so this is the inverse of the throughput and not a latency.
    """

    arena: str
    threads: int
    workload: str
    operation: str
    contender: str
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """How many connections a contender had, warm-up included; see `census`."""

    arena: str
    threads: int
    contender: str
    opened: int
    peak: int
    limit: int | None


@dataclass(slots=True)
class Result:
    """All that was measured in one arena."""

    measurements: list[Measurement]
    connections: list[Connections]


def run(arena: Arena, plan: Plan, on_turn: Callable[[Turn], None] = lambda _: None) -> Result:
    """Measure all contenders in an arena; call `on_turn` before each turn.

    What was made is removed in any case.

    Raises:
        ArenaError: the arena cannot be used, or not be cleaned up.
        ContenderError: a contender failed.
    """
    result = Result([], [])
    with quietly():
        for threads in plan.threads:
            _run_phase(arena, plan, threads, on_turn, result)
    return result


def _run_phase(
    arena: Arena,
    plan: Plan,
    threads: int,
    on_turn: Callable[[Turn], None],
    result: Result,
) -> None:
    label = arena.label
    with ExitStack() as stack:
        sides = [
            stack.enter_context(arena.open_side(contender, pool_size=plan.pool_size))
            for contender in plan.contenders
        ]
        for workload in plan.workloads:
            times: dict[str, dict[str, list[float]]] = {side.alias: {} for side in sides}
            for number in range(plan.rounds + 1):
                for side in order(sides, number):
                    on_turn(
                        Turn(
                            arena=label,
                            contender=side.contender.name,
                            workload=workload.name,
                            threads=threads,
                            round=number,
                        )
                    )
                    seed = f"{plan.seed}-{threads}-{number}"
                    try:
                        turn = take_turn(side, workload, threads, plan.iterations, seed)
                    except Exception as error:
                        raise ContenderError(
                            f"{side.contender.name} failed at {workload.name} "
                            f"with {threads} thread(s): {error}"
                        ) from error
                    if number > 0:  # the first is the warm-up
                        for operation, seconds in turn.items():
                            times[side.alias].setdefault(operation, []).append(seconds)
            result.measurements += [
                Measurement(
                    arena=label,
                    threads=threads,
                    workload=workload.name,
                    operation=operation,
                    contender=side.contender.name,
                    seconds=tuple(seconds),
                )
                for side in sides
                for operation, seconds in times[side.alias].items()
            ]
    result.connections += [
        Connections(
            arena=label,
            threads=threads,
            contender=side.contender.name,
            opened=side.census.opened,
            peak=side.census.peak,
            limit=plan.pool_size if side.contender.has_pool else None,
        )
        for side in sides
    ]


def order(sides: Sequence[Side], number: int) -> list[Side]:
    """Return the order of a round: another side begins each time, so that none always goes
    first."""
    start = number % len(sides)
    return [*sides[start:], *sides[:start]]


def take_turn(
    side: Side, workload: Workload, threads: int, iterations: int, seed: str
) -> dict[str, float]:
    """Let one contender do one workload; return the seconds per operation, by operation."""
    share = math.ceil(iterations / threads)
    clients = [Client(side.alias, share, f"{seed}-{number}") for number in range(threads)]
    gc.collect()  # nobody is to sweep up after another
    with side.census.turn():
        spans = [work(clients[0], workload)] if threads == 1 else work_together(clients, workload)
    seconds = {}
    for index, operation in enumerate(workload.operations):
        begin = min(span[index][0] for span in spans)
        end = max(span[index][1] for span in spans)
        seconds[operation.name] = (end - begin) / (share * threads)
    if len(seconds) > 1:
        seconds[TOTAL] = sum(seconds.values())
    return seconds


Span = tuple[float, float]


class Cancelled(Exception):  # noqa: N818 - not an error
    """Another client failed, or somebody pressed Ctrl-C."""


def work(
    client: Client, workload: Workload, before_operation: Callable[[], object] = lambda: None
) -> list[Span]:
    """Do the operations for all users; return when each began and ended."""
    spans = []
    for operation in workload.operations:
        before_operation()
        begin = perf_counter()
        for number in range(client.size):
            if client.cancelled:
                raise Cancelled
            try:
                operation.run(client, number)
            finally:
                # The end of a request, as Django ends it with CONN_MAX_AGE=0.
                connections[client.alias].close()
        spans.append((begin, perf_counter()))
    return spans


def work_together(clients: Sequence[Client], workload: Workload) -> list[list[Span]]:
    """Do the same in a thread for each client, all of them beginning each operation together."""
    barrier = threading.Barrier(len(clients))
    spans: list[list[Span]] = []
    errors: list[BaseException] = []

    def cancel() -> None:
        for client in clients:
            client.cancelled = True
        barrier.abort()

    def work_alone(client: Client) -> None:
        try:
            spans.append(work(client, workload, barrier.wait))
        except (Cancelled, threading.BrokenBarrierError):
            pass  # whoever is the cause says why
        except BaseException as error:
            errors.append(error)  # raised again by the main thread
            cancel()

    workers = [
        threading.Thread(target=work_alone, args=(client,), name=f"poolbench-{number}")
        for number, client in enumerate(clients)
    ]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    except BaseException:  # Ctrl-C
        cancel()
        raise
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.join()
    if errors:
        raise errors[0]
    return spans


@contextmanager
def quietly() -> Iterator[None]:
    """Turn off what projects turn on to watch their queries and pools: watching takes time."""
    debug, logger = settings.DEBUG, logging.getLogger("pooling")
    level = logger.level
    settings.DEBUG = False  # with it, Django formats and keeps every query
    logger.setLevel(max(logging.WARNING, level))
    try:
        yield
    finally:
        settings.DEBUG = debug
        logger.setLevel(level)
