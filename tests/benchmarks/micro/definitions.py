"""Definitions: a micro benchmark, its subjects, and the targets to be reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pooling.bench.contenders import Contender

Unit = Literal["time", "bytes", "rate", "number", "share"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One of those that do the same thing.

    Attributes:
        name: what rows call it, and people.
        probe: where its class is, as `module:name`.
        options: what its class is made with.
        contender: whose adapter to get connections it uses, if it goes through Django.
        health_checks: whether each connection is tested with a round trip before it is used.
        needs: the modules it needs.
        blocked: modules hidden from it.
    """

    name: str
    probe: str
    options: dict[str, Any] = field(default_factory=dict)
    contender: Contender | None = None
    health_checks: bool = False
    needs: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A row: one figure of one subject, by itself or divided by another one.

    Attributes:
        subject: whose figure.
        against: whose figure it is divided by, if it is.
        metric: which of the subject's figures.
        over: which figure it is divided by, if it is another one.
        what: what it is, where the benchmark's title does not say so.
        against_what: what it is divided by, where `against` does not say so.
        unit: how the figures are shown; a `share` is already divided by something.
        target: what is to be reached; None for figures that are only shown.
        at_least: whether the target is the least and not the most.
    """

    subject: str
    against: str = ""
    metric: str = "seconds"
    over: str = ""
    what: str = ""
    against_what: str = ""
    unit: Unit = "time"
    target: float | None = None
    at_least: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBenchmark:
    """The same thing, done in turns by several subjects.

    Attributes:
        name: on the command line and in the data.
        title: what is done.
        vendor: the kind of database it needs, if it needs one.
        number: how often it is done in a trial; None for as often as fits into a trial's time.
        quick_number: the same for a first impression, if it is another one.
        longer: how many times the usual time of a trial it takes, if it goes by time.
        most_rounds: for what takes long.
        more_rounds: how many times the usual number of rounds, where rounds differ much.
        tables: how many tables its database has.
        is_fresh: whether each round has new processes. What a process costs depends on where its
            memory happens to be, and its threads fall into a rhythm: both last as long as it does,
            and a repetition would measure the same again.
    """

    name: str
    title: str
    subjects: tuple[Subject, ...]
    targets: tuple[Target, ...]
    vendor: str = ""
    number: int | None = None
    quick_number: int | None = None
    longer: float = 1.0
    most_rounds: int | None = None
    more_rounds: int = 1
    tables: int = 1
    is_fresh: bool = False
