"""Run a suite for maintainers: `python -m tests.benchmarks micro` or `http`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings

if not settings.configured:
    settings.configure(USE_TZ=True)
    django.setup()

from pooling.bench import arguments
from pooling.bench.adapters.base import POSTGRESQL
from pooling.bench.contenders import CONTENDERS
from pooling.bench.databases import SetupError
from pooling.bench.progress import report_progress
from pooling.bench.reports import WRITERS, text
from pooling.management.commands.poolbench import terminated_like_interrupted

from .http import suite as http
from .micro import report
from .micro.benchmarks import BENCHMARKS
from .micro.runner import QUICK, Budget, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pooling.bench.plan import Plan

MICRO_WRITERS = {"json": WRITERS["json"], "markdown": report.render_markdown}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    suites = found.add_subparsers(dest="suite", required=True)
    for suite, choices, writers in (
        ("micro", BENCHMARKS, MICRO_WRITERS),
        ("http", http.WORKLOADS, WRITERS),
    ):
        one = suites.add_parser(suite)
        one.add_argument("--workload", action="append", help=f"only these: {', '.join(choices)}")
        one.add_argument("--quick", action="store_true", help="a first impression")
        one.add_argument("--rounds", type=arguments.at_least_one, help="turns of each")
        one.add_argument("--duration", type=arguments.positive_duration, help="of a trial")
        one.add_argument("--seed", type=int, help="for the order of turns")
        if suite == "http":
            one.add_argument("--contender", action="append", help="only these")
        for writer in writers:
            one.add_argument(f"--{writer}", type=Path, metavar="FILE", help="write the results")
    return found


def make_budget(
    *, quick: bool, rounds: int | None, duration: float | None, seed: int | None
) -> Budget:
    """Return how much the micro suite measures; None for the default."""
    usual = QUICK if quick else Budget()
    return Budget(
        rounds=rounds or usual.rounds,
        seconds=duration or usual.seconds,
        seed=usual.seed if seed is None else seed,
        quick=quick,
    )


def make_http_plan(
    *, contender: Sequence[str] | None, workload: Sequence[str] | None, **knobs: Any
) -> Plan:
    """Return what the HTTP suite measures.

    Raises:
        ArgumentError: something chosen does not exist, or cannot serve a page.
    """
    able = {
        name: each
        for name, each in CONTENDERS.items()
        if each.level == "orm" and POSTGRESQL in each.vendors
    }
    return http.make_plan(
        contenders=arguments.choose("contender", contender, able) if contender else None,
        workloads=arguments.choose("workload", workload, http.WORKLOADS) if workload else None,
        **knobs,
    )


def main(given: Sequence[str] | None = None) -> int:
    """Run a suite; return the exit code."""
    options = vars(parser().parse_args(given))
    suite, workload = options.pop("suite"), options.pop("workload")
    files = {name: path for name in WRITERS if (path := options.pop(name, None)) is not None}
    try:
        with terminated_like_interrupted():
            if suite == "micro":
                chosen = arguments.choose("workload", workload or list(BENCHMARKS), BENCHMARKS)
                budget = make_budget(**options)
                document: Any = measure(chosen, budget, lambda each: say(each.title))
            else:
                plan = make_http_plan(workload=workload, **options)
                with report_progress(sys.stderr, http.steps(plan)) as on_step:
                    document = http.measure(plan, on_step)
    except KeyboardInterrupt:
        say("interrupted; everything made was removed")
        return 130
    except (arguments.ArgumentError, SetupError) as error:
        say(str(error))
        return 1
    writers: Any = MICRO_WRITERS if suite == "micro" else WRITERS
    for name, path in files.items():
        path.write_text(writers[name](document), encoding="utf-8")
    if suite == "micro":
        report.render_text(document, sys.stdout)
    else:
        text.render(document, sys.stdout, details=True)
        verdict = f"{report.verdict(document)}.\n"
        text.write(sys.stdout, "".join(["\n", *report.sections(document), verdict]))
    return 0


def say(text: str) -> None:
    """Write a line to the terminal; the report may go to a file."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
