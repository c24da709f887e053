"""`manage.py poolbench`: what does pooling give here, and which pool?"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.db import connections

from pooling.bench import arguments
from pooling.bench.databases import ArenaError
from pooling.bench.arguments import ArgumentError
from pooling.bench.contenders import CONTENDERS, VENDORS
from tests.benchmarks.http import suite as http
from tests.benchmarks.micro.benchmarks import CONTESTS
from tests.benchmarks.micro.runner import Amount
from tests.benchmarks.micro.suite import measure as measure_micro
from pooling.bench.reports import csv, html, markdown, micro, table
from pooling.bench.places import arena_of_alias, distant_host, private_arena, vendor_of_alias
from pooling.bench.plan import Plan
from pooling.bench.progress import report_progress
from pooling.bench.relay import RelayError
from pooling.bench.benchmark import measure
from pooling.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from django.core.management.base import CommandParser

    from tests.benchmarks.micro.definitions import Contest
    from pooling.bench.results import Document
    from pooling.bench.runner import Step

DEFAULTS = Plan()
ROUNDS = f"{DEFAULTS.rounds}, of micro {Amount().rounds}"

Writers = dict[str, "Callable[[Mapping[str, object]], str]"]

WRITERS: Writers = {
    "json": lambda document: json.dumps(document, indent=1) + "\n",
    "csv": csv.render,
    "markdown": markdown.render,
    "report": html.render,
}
MICRO_WRITERS: Writers = {
    **WRITERS,
    "csv": micro.render_csv,
    "markdown": micro.render_markdown,
    "report": micro.render_html,
}
LOAD, MICRO, HTTP = "load", "micro", "http"
SUITES = (LOAD, MICRO, HTTP)

# What the small suites go by; the other options are about what they do not do.
MICRO_OPTIONS = ("workload", "quick", "rounds", "duration", "seed", *WRITERS)
HTTP_KNOBS = ("contender", "workload", "quick", "rounds", "duration", "seed")
HTTP_OPTIONS = (*HTTP_KNOBS, *WRITERS)


class Command(BaseCommand):
    help = (
        "Measures ways to get a database connection against each other: Django's backends, the "
        "pooled ones, other pools, and drivers by themselves. Works in databases of its own and "
        "removes them: SQLite files, a private PostgreSQL and a simulated database, or new "
        "databases on the server of --database."
    )
    # It has databases of its own, and says nothing about the project's.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--suite",
            choices=SUITES,
            default=LOAD,
            help="load: what applications do (default); micro: what the pool itself costs, against "
            "targets; http: what a page of the demo gains",
        )
        where = parser.add_mutually_exclusive_group()
        where.add_argument(
            "--engine",
            action="append",
            metavar="NAME",
            help=f"only this kind of private database: {', '.join(VENDORS)}",
        )
        where.add_argument(
            "--database",
            metavar="ALIAS",
            help="new databases on the server, or beside the file, of this entry of DATABASES",
        )
        _add_choices(parser)
        _add_amounts(parser)
        _add_conditions(parser)
        _add_outputs(parser)
        parser.add_argument(
            "--yes", action="store_true", help="do not ask before using a server elsewhere"
        )

    def handle(self, *, suite: str, **options: Any) -> None:
        files = _output_files(options)
        try:
            with terminated_like_interrupted():
                if suite == MICRO:
                    self.run_micro(options, files)
                elif suite == HTTP:
                    self.run_http(options, files)
                else:
                    self.run_load(files, **options)
        except KeyboardInterrupt:
            raise CommandError("interrupted; everything made was removed", returncode=130) from None
        except (ArgumentError, ArenaError, RelayError, DatabaseError) as error:
            raise CommandError(str(error)) from error

    def run_load(
        self,
        files: dict[str, Path],
        *,
        engine: list[str] | None,
        database: str | None,
        yes: bool,
        simulated_open: float | None,
        simulated_query: float | None,
        simulated_unhealthy: float | None,
        **options: Any,
    ) -> None:
        contender = options["contender"]
        if database is not None:
            vendors: tuple[str, ...] = (vendor_of_alias(database),)
            self.make_sure(database, yes=yes)
        else:
            vendors = arguments.vendors_for(engine, contender)
        plan = arguments.with_simulation(
            arguments.make_plan(vendors, **{name: options[name] for name in PLANNED}),
            open_seconds=simulated_open,
            query_seconds=simulated_query,
            unhealthy=simulated_unhealthy,
        )
        document = self.measure(plan, vendors, database)
        # The files first: a reader of the table may be gone (`| head`).
        write(document, files, WRITERS)
        table.render(document, self.stdout)  # type: ignore[arg-type]

    def run_micro(self, options: dict[str, Any], files: dict[str, Path]) -> None:
        arguments.refuse_others(options, MICRO_OPTIONS, f"--suite {MICRO}")
        contests = arguments.choose_contests(options["workload"])
        amount = arguments.make_amount(
            **{name: options[name] for name in ("quick", "rounds", "duration", "seed")}
        )
        document = measure_micro(contests, amount, self.tell)
        write(document, files, MICRO_WRITERS)
        micro.render_text(document, self.stdout)  # type: ignore[arg-type]

    def run_http(self, options: dict[str, Any], files: dict[str, Path]) -> None:
        arguments.refuse_others(options, HTTP_OPTIONS, f"--suite {HTTP}")
        plan = arguments.make_http_plan(**{name: options[name] for name in HTTP_KNOBS})
        with self.progress(
            len(plan.contenders) * (plan.rounds + 1) * len(plan.workloads or ())
        ) as on_step:
            document = http.measure(plan, on_step)
        write(document, files, WRITERS)
        table.render(document, self.stdout)  # type: ignore[arg-type]

    def tell(self, contest: Contest) -> None:
        """Say on the terminal what comes next; the report may go to a file."""
        self.stderr.style_func = None
        self.stderr.write(contest.title)
        self.stderr.flush()

    def make_sure(self, alias: str, *, yes: bool) -> None:
        """Ask before the benchmark runs on somebody else's machine."""
        host = distant_host(connections.settings[alias])
        if yes or not host:
            return
        what = f"The database {alias!r} is on another machine ({host})"
        if not sys.stdin.isatty():
            raise CommandError(
                f"{what}; say --yes to put load on it and to make databases there for a while"
            )
        self.stderr.write(f"{what}. Put load on it, and make databases there for a while? [y/N] ")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise CommandError("nothing was done")

    def measure(self, plan: Plan, vendors: tuple[str, ...], database: str | None) -> Document:
        if database is not None:
            arenas = [arena_of_alias(database)]
        else:
            needed = plan.most_connections()
            arenas = [private_arena(vendor, needed) for vendor in vendors]
        with self.progress(sum(plan.turns(vendor) for vendor in vendors)) as on_step:
            return measure(plan, arenas, on_step)

    def progress(self, steps: int) -> AbstractContextManager[Callable[[Step], None]]:
        """Show on the terminal how far it is; the report may go to a file."""
        self.stderr.style_func = None
        self.stderr.ending = ""
        return report_progress(self.stderr, steps)  # type: ignore[arg-type]


PLANNED = (
    "contender",
    "workload",
    "baseline",
    "sweep",
    "quick",
    "rounds",
    "iterations",
    "threads",
    "pool_size",
    "duration",
    "timeout",
    "rtt",
    "health_checks",
    "seed",
)


def _add_choices(parser: CommandParser) -> None:
    other = f"; of micro: {', '.join(CONTESTS)}; of http: {', '.join(http.WORKLOADS)}"
    for option, choices in (("contender", CONTENDERS), ("workload", WORKLOADS)):
        parser.add_argument(
            f"--{option}",
            action="append",
            metavar="NAME[,NAME...]",
            help=f"only these: {', '.join(choices)}" + (other if option == "workload" else ""),
        )
    parser.add_argument(
        "--baseline", metavar="NAME", help="the contender that ratios refer to (default: stock)"
    )
    parser.add_argument(
        "--sweep",
        choices=("iterations", "pool-size"),
        help="vary this instead of the workload: what grows with the number of operations, and "
        "what with the size of the pool",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a first impression, within about 20 seconds"
    )


def _add_amounts(parser: CommandParser) -> None:
    for option, convert, default, meaning in (
        ("--rounds", arguments.at_least_one, ROUNDS, "how often each has its turn"),
        ("--iterations", arguments.at_least_one, DEFAULTS.iterations, "operations in a round"),
        ("--pool-size", arguments.pool_size, DEFAULTS.pool_size, "connections of each pool"),
        ("--threads", arguments.numbers_of_threads, "1,8", "numbers of threads, with commas"),
        ("--duration", arguments.positive_duration, None, "seconds of a turn, if not counted"),
    ):
        shown = "" if default is None else f" (default: {default})"
        parser.add_argument(option, type=_argument(convert), metavar="N", help=meaning + shown)
    parser.add_argument("--seed", type=int, help="for users, bootstrap and simulation (default: 1)")


def _add_conditions(parser: CommandParser) -> None:
    parser.add_argument(
        "--rtt",
        type=_argument(arguments.duration),
        metavar="1ms",
        help="add this round-trip time to PostgreSQL's, with a TCP relay",
    )
    parser.add_argument(
        "--timeout",
        type=_argument(arguments.positive_duration),
        metavar="0.5s",
        help=f"of the pools, in `exhaustion` (default: {DEFAULTS.timeout:g}s)",
    )
    parser.add_argument(
        "--health-checks",
        action="store_true",
        default=None,
        help="every pool tests each connection with a round trip before it is used",
    )
    simulation = DEFAULTS.simulation
    for option, convert, default, meaning in (
        ("open", arguments.duration, f"{simulation.open_seconds:g}s", "to open a connection"),
        ("query", arguments.duration, f"{simulation.query_seconds:g}s", "to answer a query"),
        ("unhealthy", arguments.share, f"{simulation.unhealthy:g}", "share of bad connections"),
    ):
        parser.add_argument(
            f"--simulated-{option}",
            type=_argument(convert),
            metavar=default,
            help=f"of the simulated database: {meaning}",
        )


def _add_outputs(parser: CommandParser) -> None:
    for option, what in (
        ("--json", "everything, as data"),
        ("--csv", "a line for each result"),
        ("--markdown", "tables for a README"),
        ("--report", "a page with charts, in one HTML file"),
    ):
        parser.add_argument(option, type=Path, metavar="FILE", help=f"write {what}")


def write(document: Mapping[str, object], files: dict[str, Path], writers: Writers) -> None:
    """Write the files that were asked for."""
    for writer, path in files.items():
        path.write_text(writers[writer](document), encoding="utf-8")


def _argument(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let argparse say what an `ArgumentError` says."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except ArgumentError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return converted


def _output_files(options: dict[str, Any]) -> dict[str, Path]:
    """Return the files to write; a wrong folder is better known before than after minutes."""
    files = {name: options[name] for name in WRITERS if options[name] is not None}
    for name, path in files.items():
        if not path.resolve().parent.is_dir():
            raise CommandError(f"--{name} {path}: there is no such folder")
        if path.is_dir():
            raise CommandError(f"--{name} {path}: that is a folder")
    return files


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, so that it cleans up as well."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
