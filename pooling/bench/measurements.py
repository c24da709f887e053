"""What is written down while a contender works: by each client for itself, then put together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .workloads import Workload

LONGEST_ERROR = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a contender is told to do.

    Attributes:
        iterations: operations of each workload, shared out among its phases and the clients.
        seconds: if given, the turn ends by the clock and not by the count.
        seed: for the users' data and the choice of what to do.
    """

    workload: Workload
    iterations: int
    seconds: float | None
    seed: str


@dataclass(slots=True)
class Tally:
    """One client's notes on one phase; times in seconds.

    Attributes:
        latencies: of the operations that succeeded, each from the wish for a connection until it
            was given back.
        acquiring: the part of them until the client had its connection.
        errors: what the others ended with.
        begin, end: when the client began its first and ended its last operation.
    """

    latencies: list[float] = field(default_factory=list)
    acquiring: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    begin: float = 0.0
    end: float = 0.0


@dataclass(slots=True)
class PhaseReport:
    """All clients' notes on one phase.

    Attributes:
        seconds: from the first client's beginning to the last one's end.
        rates: operations per second, client by client.
    """

    latencies: list[float]
    acquiring: float
    errors: Counter[str]
    seconds: float
    rates: list[float]

    @classmethod
    def of(cls, tallies: Sequence[Tally]) -> PhaseReport:
        return cls(
            latencies=[each for tally in tallies for each in tally.latencies],
            acquiring=sum(tally.acquiring for tally in tallies),
            errors=sum((tally.errors for tally in tallies), Counter()),
            seconds=max(tally.end for tally in tallies) - min(tally.begin for tally in tallies),
            rates=[
                len(tally.latencies) / (tally.end - tally.begin) if tally.latencies else 0.0
                for tally in tallies
            ],
        )


@dataclass(slots=True)
class TurnReport:
    """What a contender has done in one turn.

    Attributes:
        phases: by operation.
        note: what cannot be said in numbers.
    """

    phases: dict[str, PhaseReport]
    note: str | None = None


@dataclass(slots=True)
class Opened:
    """How many connections a contender opened since it began, and had at the same time."""

    opened: int
    peak: int


def describe_error(error: BaseException) -> str:
    """Return an error's kind and the beginning of its message, on one line."""
    text = " ".join(str(error).split())
    if len(text) > LONGEST_ERROR:
        text = f"{text[: LONGEST_ERROR - 3]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
