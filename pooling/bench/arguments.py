"""From the command line's arguments to a plan; errors name the choices."""

from __future__ import annotations

import difflib
import re
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, Any, TypeVar

from .adapters.base import MYSQL, POSTGRESQL, SIMULATED, SQLITE, VENDORS
from .adapters.own import OwnWorkError, find_callable
from .contenders import CONTENDERS
from .plan import Plan
from .workloads import WORKLOADS, own_workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .contenders import Contender
    from .workloads import Workload

T = TypeVar("T")

MOST = 100
"""Threads, or connections of a pool."""

LONGEST_DURATION = 60.0

# What takes about 30 seconds: enough for the gain, and not to tell close contenders apart.
QUICK: dict[str, Any] = {"rounds": 3, "duration": 0.8}
QUICK_CONTENDERS = ("stock", "persistent", "pooled", "native")

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0}


class ArgumentError(ArgumentTypeError):
    """An argument does not exist or makes no sense; the message names the choices."""


def at_least_one(text: str) -> int:
    """Return a whole number from 1."""
    number = int(text) if text.strip().isdecimal() else 0
    if number < 1:
        raise ArgumentError(f"{text!r}: a whole number from 1 is needed")
    return number


def pool_size(text: str) -> int:
    """Return a number of connections."""
    if (number := at_least_one(text)) > MOST:
        raise ArgumentError(f"{text!r}: {MOST} connections at most")
    return number


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as `1,8,32`, each of them once."""
    return tuple(dict.fromkeys(at_least_one(part.strip()) for part in text.split(",")))


def numbers_of_threads(text: str) -> tuple[int, ...]:
    """Return a list of numbers of threads."""
    if max(found := numbers(text)) > MOST:
        raise ArgumentError(f"{text!r}: {MOST} threads at most")
    return found


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
    """Return the seconds of a duration, which must not be 0."""
    if not (seconds := duration(text)):
        raise ArgumentError(f"{text!r}: more than 0 is needed")
    return seconds


def share(text: str) -> float:
    """Return a share from 0 to 0.9; `5%` is one, too."""
    try:
        number = float(text.rstrip("% ")) / (100 if text.rstrip().endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 0.9:
        raise ArgumentError(f"{text!r}: a share such as 0.05 or 5% is needed, 0.9 at most")
    return number


VALUES: dict[str, tuple[Callable[[str], Any], str]] = {
    "rounds": (at_least_one, "how often each contender has its turn"),
    "duration": (positive_duration, "seconds of a turn"),
    "iterations": (at_least_one, "operations in a turn, instead of a duration"),
    "pool_size": (pool_size, "connections of each pool (default: 4, in `think` 5)"),
    "threads": (numbers_of_threads, "numbers of threads (default: 8, in `think` 50)"),
    "rate": (
        numbers,
        "operations due in each second, whether earlier ones are done or not; several give a curve",
    ),
    "seed": (int, "for users and simulation"),
    "rtt": (duration, "add this round-trip time to the server's, such as 1ms"),
    "timeout": (positive_duration, "seconds a pool lets a caller wait in `exhaustion`"),
    "simulated_open": (duration, "seconds to open a simulated connection"),
    "simulated_query": (duration, "seconds to answer a simulated query"),
    "simulated_unhealthy": (share, "share of liveness tests that a simulated connection fails"),
}
"""The plan's attributes that are options: what converts the text, and what they mean."""


def choose(what: str, given: Iterable[str], choices: Mapping[str, T]) -> tuple[T, ...]:
    """Return what the given names stand for; one text may hold several, with commas.

    Raises:
        ArgumentError: there is no such thing.
    """
    names = [name.strip() for text in given for name in text.split(",")]
    for name in names:
        if name not in choices:
            near = difflib.get_close_matches(name, choices, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ArgumentError(f"no {what} {name!r}{hint} Choose from {', '.join(choices)}")
    return tuple(choices[name] for name in dict.fromkeys(names))


def make_plan(vendors: Sequence[str], options: Mapping[str, Any]) -> Plan:
    """Return a plan in which every database and every chosen contender takes part.

    Args:
        vendors: the kinds of databases.
        options: the command's; None for the default.

    Raises:
        ArgumentError: there is no such plan; the message names the choices.
    """
    workloads = workloads_of(options)
    chosen = _contenders(options, vendors, workloads)
    if (baseline := options["baseline"]) is not None:
        [base] = choose("contender", [baseline], CONTENDERS)
        if not set(base.vendors) & set(vendors):
            raise ArgumentError(
                f"the baseline {baseline!r} does not work with {', '.join(vendors)}; "
                f"choose from {_names(chosen)}"
            )
        chosen = chosen if base in chosen else (*chosen, base)
    if options["rtt"] and not set(vendors) <= {POSTGRESQL, MYSQL}:
        raise ArgumentError(f"--rtt delays PostgreSQL or MySQL and not {', '.join(vendors)}")
    known = (*VALUES, "baseline", "sweep", "health_checks", "quick", "pin")
    given = {name: options[name] for name in known if options[name] is not None}
    plan = Plan(
        **{**(QUICK if options["quick"] else {}), **given},
        contenders=chosen,
        workloads=workloads or None,
        usual_only=not options["contender"],
    )
    varied = "sweep" if plan.sweep else "rate" if plan.rate else ""
    if varied and any(each.kind not in ("steady", "own") for each in workloads):
        steady = [each.name for each in WORKLOADS.values() if each.kind == "steady"]
        raise ArgumentError(f"--{varied} works with the workloads {', '.join(steady)}")
    if plan.sweep and plan.rate:
        raise ArgumentError("--sweep and --rate vary different things; choose one of them")
    for vendor in vendors:
        if not plan.trials(vendor):
            raise ArgumentError(
                f"none of the contenders {_names(plan.contenders)} can do this with {vendor}; "
                f"choose from {_names(_working_with([vendor]))}"
            )
    return plan


def workloads_of(options: Mapping[str, Any]) -> tuple[Workload, ...]:
    """Return the chosen workloads, the project's own work among them."""
    if options["url"] is not None:
        if not options["url"].startswith("/"):
            raise ArgumentError(f"--url {options['url']}: a path such as /shop/ is needed")
        return (own_workload(options["url"]),)
    given = options["workload"] or []
    if any(":" in each for each in given):
        [target, *more] = given
        if more:
            raise ArgumentError("--workload module:callable stands alone")
        try:
            find_callable(target)
        except OwnWorkError as error:
            raise ArgumentError(str(error)) from error
        return (own_workload(target),)
    return choose("workload", given, WORKLOADS)


def _contenders(
    options: Mapping[str, Any], vendors: Sequence[str], workloads: Sequence[Workload]
) -> tuple[Contender, ...]:
    able = _working_with(vendors)
    if options["contender"] == ["all"]:
        return tuple(able)
    if not options["contender"]:
        named = {each.name for each in workloads}
        about = {name for each in workloads for name in each.contenders}
        return tuple(
            each
            for each in able
            if set(each.usual) & set(vendors)
            and (not each.only or named & set(each.only))
            and (not about or each.name in about or len(workloads) > 1)
            and (not options["quick"] or each.name in QUICK_CONTENDERS or SIMULATED in vendors)
        )
    chosen = choose("contender", options["contender"], CONTENDERS)
    for each in chosen:
        if each not in able:
            raise ArgumentError(
                f"{each.name} works with {', '.join(each.vendors)} and not with "
                f"{', '.join(vendors)}; choose from {_names(able)}"
            )
    if missing := [found for each in chosen if (found := each.missing())]:
        raise ArgumentError("; ".join(f"{each['contender']}: {each['reason']}" for each in missing))
    return chosen


def _working_with(vendors: Sequence[str]) -> list[Contender]:
    return [each for each in CONTENDERS.values() if set(each.vendors) & set(vendors)]


def _names(contenders: Sequence[Contender]) -> str:
    return ", ".join(each.name for each in contenders)


def vendors_for(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the private databases: those that are named, or all that the contenders can use.

    MySQL has to be named.
    """
    if options["engine"]:
        return choose("engine", options["engine"], {vendor: vendor for vendor in VENDORS})
    if options["rtt"]:
        return (POSTGRESQL,)
    if not options["contender"] or options["contender"] == ["all"]:
        return (POSTGRESQL, SQLITE)
    chosen = choose("contender", options["contender"], CONTENDERS)
    unnamed = [each for each in VENDORS if each != MYSQL]
    return tuple(each for each in unnamed if any(each in other.vendors for other in chosen))
