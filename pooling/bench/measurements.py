"""What is measured while a contender works: a client's samples, and the reports made of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from pooling.formatting import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .workloads import Workload

LONGEST_ERROR = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a contender has to do.

    Attributes:
        iterations: operations of the workload, shared out among its phases and the clients.
        seconds: if given, the trial ends by the clock and not by the count.
        rate: if given, so many operations are due in each second, whether earlier ones are done
            or not; a latency counts from the moment when the operation was due.
        seed: for the users' data and the choice of actions.
    """

    workload: Workload
    iterations: int
    seconds: float | None
    seed: str
    rate: float | None = None


@dataclass(slots=True)
class Samples:
    """One client's measurements of one phase; times in seconds.

    Attributes:
        latencies: of the operations that succeeded, from asking for a connection until it was
            returned.
        acquiring: the part of them until the client had its connection.
        errors: how the others failed.
        begin, end: when the client began its first and ended its last operation.
    """

    latencies: list[float] = field(default_factory=list)
    acquiring: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    begin: float = 0.0
    end: float = 0.0


@dataclass(slots=True)
class PhaseReport:
    """All clients' measurements of one phase.

    Attributes:
        seconds: from the first client's beginning to the last one's end. Where the clock ended the
            phase, the mean of the clients' times: each has counted its last operation whole, and
            to have it wait for the last client's would cost slow operations more than fast ones.
        rates: operations per second, client by client.
        cpu: seconds of processor time of the contender's process, if they were measured.
    """

    latencies: list[float]
    acquiring: float
    errors: Counter[str]
    seconds: float
    rates: list[float]
    cpu: float | None = None

    @classmethod
    def of(
        cls, clients: Sequence[Samples], cpu: float | None = None, *, by_time: bool = False
    ) -> PhaseReport:
        """Put the measurements of a phase's clients together.

        Args:
            by_time: whether the clock has ended the phase, rather than a number of operations.
        """
        whole = max(each.end for each in clients) - min(each.begin for each in clients)
        return cls(
            latencies=[latency for each in clients for latency in each.latencies],
            acquiring=sum(each.acquiring for each in clients),
            errors=sum((each.errors for each in clients), Counter()),
            seconds=fmean(each.end - each.begin for each in clients) if by_time else whole,
            rates=[
                len(each.latencies) / (each.end - each.begin) if each.latencies else 0.0
                for each in clients
            ],
            cpu=cpu,
        )


@dataclass(slots=True)
class TrialReport:
    """What a contender has done in one trial: a report for each operation, and a note in words."""

    phases: dict[str, PhaseReport]
    note: str | None = None


class ConnectionCounts(NamedTuple):
    """How many connections a contender opened in all, and had open at the same time."""

    opened: int
    peak: int


def describe_error(error: BaseException) -> str:
    """Return an error's type and the beginning of its message, on one line."""
    text = one_line(error, LONGEST_ERROR)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
