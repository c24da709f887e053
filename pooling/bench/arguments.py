"""From the words of a command line to a plan; what is wrong is said with the choices there are."""

from __future__ import annotations

import dataclasses
import difflib
import re
from typing import TYPE_CHECKING, Any, TypeVar

from .contenders import CONTENDERS, POSTGRESQL, USUAL, VENDORS
from .http import suite as http
from .micro.contests import CONTESTS
from .micro.runner import QUICK as QUICK_AMOUNT
from .micro.runner import Amount
from .plan import Plan
from .workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .contenders import Contender
    from .micro.contest import Contest

T = TypeVar("T")

MOST_THREADS = 100
LONGEST_DURATION = 60.0

# What takes about 20 seconds.
QUICK: dict[str, Any] = {
    "rounds": 3,
    "iterations": 40,
    "threads": (1, 4),
    "pool_size": 2,
    "haste": 2.0,
    "usual": (WORKLOADS["connect"], WORKLOADS["crud"], WORKLOADS["contention"]),
}

# By the names they have in Python.
ALL_OPTIONS = (
    *("engine", "database", "contender", "workload", "baseline", "sweep", "quick", "rounds"),
    *("iterations", "pool_size", "threads", "duration", "rtt", "timeout", "health_checks", "yes"),
    *("seed", "simulated_open", "simulated_query", "simulated_unhealthy"),
)

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0}


class ArgumentError(ValueError):
    """What was asked for does not exist or makes no sense; the message names the choices."""


def at_least_one(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentError(f"{text!r}: a whole number from 1 is needed")
    return number


def pool_size(text: str) -> int:
    if (number := at_least_one(text)) > MOST_THREADS:
        raise ArgumentError(f"{text!r}: {MOST_THREADS} connections at most")
    return number


def numbers_of_threads(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as `1,8,32`, each of them once."""
    numbers = tuple(dict.fromkeys(at_least_one(part.strip()) for part in text.split(",")))
    if max(numbers) > MOST_THREADS:
        raise ArgumentError(f"{text!r}: {MOST_THREADS} threads at most")
    return numbers


def duration(text: str) -> float:
    """Return the seconds of `1ms`, `0.5s`, `250us`, or of a plain number."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s|)\s*", text)
    if found is None:
        raise ArgumentError(f"{text!r}: a duration such as 1ms or 0.5s is needed")
    seconds = float(found[1]) * _UNITS[found[2]]
    if seconds > LONGEST_DURATION:
        raise ArgumentError(f"{text!r}: {LONGEST_DURATION:g} s at most")
    return seconds


def positive_duration(text: str) -> float:
    if not (seconds := duration(text)):
        raise ArgumentError(f"{text!r}: more than 0 is needed")
    return seconds


def share(text: str) -> float:
    """Return a share from 0 to below 1; `5%` is one, too."""
    try:
        number = float(text.rstrip("% ")) / (100 if text.rstrip().endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 0.9:
        raise ArgumentError(f"{text!r}: a share such as 0.05 or 5% is needed, 0.9 at most")
    return number


def choose(what: str, given: Sequence[str], choices: Mapping[str, T]) -> tuple[T, ...]:
    """Return what the given names stand for; one text may hold several, with commas.

    Raises:
        ArgumentError: there is no such thing.
    """
    names = [name.strip() for text in given for name in text.split(",")]
    for name in names:
        if name not in choices:
            near = difflib.get_close_matches(name, choices, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ArgumentError(f"no {what} {name!r}{hint} Choose from {', '.join(choices)}")
    return tuple(choices[name] for name in dict.fromkeys(names))


def make_plan(
    vendors: Sequence[str],
    *,
    contender: Sequence[str] | None,
    workload: Sequence[str] | None,
    baseline: str | None,
    sweep: str | None,
    quick: bool,
    **knobs: Any,
) -> Plan:
    """Return a plan that gives everybody at every database something to do.

    Args:
        vendors: the kinds of databases that take part.
        knobs: further attributes of the plan; None for the default.

    Raises:
        ArgumentError: it would not; the message names the choices.
    """
    chosen = _contenders(contender, vendors)
    if baseline is not None:
        [base] = choose("contender", [baseline], CONTENDERS)
        if base not in chosen:
            chosen = (*chosen, base)
        if not set(base.vendors) & set(vendors):
            raise ArgumentError(
                f"the baseline {baseline!r} does not work with {', '.join(vendors)}; "
                f"choose from {', '.join(each.name for each in chosen if each != base)}"
            )
    given = {name: value for name, value in knobs.items() if value is not None}
    if workload:
        given["workloads"] = choose("workload", workload, WORKLOADS)
    plan = Plan(
        **{
            **(QUICK if quick else {}),
            **given,
            "contenders": chosen,
            "baseline": baseline,
            "sweep": sweep,
        }
    )
    if plan.sweep is not None and any(each.kind != "steady" for each in plan.workloads or ()):
        raise ArgumentError(
            "--sweep works with the workloads "
            + ", ".join(name for name, each in WORKLOADS.items() if each.kind == "steady")
        )
    for vendor in vendors:
        if not plan.turns(vendor):
            raise ArgumentError(
                f"none of the contenders {', '.join(each.name for each in plan.contenders)} "
                f"can do this with {vendor}; choose from "
                + ", ".join(each.name for each in CONTENDERS.values() if vendor in each.vendors)
            )
    return plan


def _contenders(given: Sequence[str] | None, vendors: Sequence[str]) -> tuple[Contender, ...]:
    if given:
        chosen = choose("contender", given, CONTENDERS)
    else:
        chosen = USUAL
        return tuple(each for each in chosen if set(each.vendors) & set(vendors))
    for each in chosen:
        if not set(each.vendors) & set(vendors):
            raise ArgumentError(
                f"{each.name} works with {', '.join(each.vendors)} and not with "
                f"{', '.join(vendors)}; choose from "
                + ", ".join(
                    other.name for other in CONTENDERS.values() if set(other.vendors) & set(vendors)
                )
            )
    if missing := [found for each in chosen if (found := each.missing())]:
        raise ArgumentError("; ".join(f"{each['contender']}: {each['reason']}" for each in missing))
    return chosen


def with_simulation(plan: Plan, **changes: float | None) -> Plan:
    """Return the plan with another simulated database; None leaves a value as it is."""
    given = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(plan, simulation=dataclasses.replace(plan.simulation, **given))


def vendors_for(given: Sequence[str] | None, contender: Sequence[str] | None) -> tuple[str, ...]:
    """Return the private databases: those that are named, or all that the contenders can use."""
    if given:
        return choose("engine", given, {vendor: vendor for vendor in VENDORS})
    if not contender:
        return VENDORS
    chosen = choose("contender", contender, CONTENDERS)
    return tuple(each for each in VENDORS if any(each in other.vendors for other in chosen))


def refuse_others(given: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    """Refuse options that would have no effect.

    Raises:
        ArgumentError: one was given; the message names it and the others.
    """
    for name in ALL_OPTIONS:
        if name not in known and given.get(name):
            options = ", ".join(_dashed(each) for each in known)
            raise ArgumentError(f"{what} has no use for {_dashed(name)}; it takes {options}")


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def choose_contests(given: Sequence[str] | None) -> tuple[Contest, ...]:
    """Return the contests of the micro suite that are named, or all."""
    return choose("workload", given, CONTESTS) if given else tuple(CONTESTS.values())


def make_amount(
    *, quick: bool, rounds: int | None, duration: float | None, seed: int | None
) -> Amount:
    """Return how much the micro suite measures; None for the default."""
    usual = QUICK_AMOUNT if quick else Amount()
    return Amount(
        rounds=rounds or usual.rounds,
        seconds=duration or usual.seconds,
        seed=usual.seed if seed is None else seed,
        quick=quick,
    )


def make_http_plan(
    *, contender: Sequence[str] | None, workload: Sequence[str] | None, **knobs: Any
) -> Plan:
    """Return what the http suite measures.

    Raises:
        ArgumentError: something chosen does not exist, or cannot serve a page.
    """
    able = {name: each for name, each in CONTENDERS.items() if each.level == "orm"}
    able = {name: each for name, each in able.items() if POSTGRESQL in each.vendors}
    return http.make_plan(
        contenders=choose("contender", contender, able) if contender else None,
        workloads=choose("workload", workload, http.WORKLOADS) if workload else None,
        **knobs,
    )
