"""`manage.py poolbench`: what does pooling give here, and which pool?"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.db import connections
from django.db.utils import DEFAULT_DB_ALIAS

from pooling.bench import arguments, compare, environment
from pooling.bench.adapters.base import SQLITE, VENDORS
from pooling.bench.arguments import ArgumentError
from pooling.bench.contenders import CONTENDERS
from pooling.bench.databases import (
    OwnProvider,
    SetupError,
    distant_host,
    private_provider,
    provider_of_alias,
    vendor_of_alias,
)
from pooling.bench.plan import Plan
from pooling.bench.progress import report_progress
from pooling.bench.reports import WRITERS, text
from pooling.bench.runner import measure
from pooling.bench.statistics import ENOUGH_ROUNDS
from pooling.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from django.core.management.base import CommandParser

    from pooling.bench.results import Document


class Command(BaseCommand):
    help = (
        "Measures ways to get a database connection against each other: Django's backends, the "
        "pooled ones, other pools, and drivers by themselves. Works in databases of its own and "
        "removes them: SQLite files, a private PostgreSQL, MariaDB (with --engine mysql) and a "
        "simulated database, or new databases on the server of --database."
    )
    # It has databases of its own, and says nothing about the project's.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
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
        for option, choices in (
            ("contender", ("all", *CONTENDERS)),
            ("workload", ("module:callable, a request's work of your own", *WORKLOADS)),
        ):
            meaning = f"only these: {', '.join(choices)}"
            parser.add_argument(
                f"--{option}", action="append", metavar="NAME[,NAME...]", help=meaning
            )
        parser.add_argument(
            "--url",
            metavar="/PATH/",
            help="the work is a view of this project, with all middleware",
        )
        parser.add_argument(
            "--baseline",
            metavar="NAME",
            help="the contender that ratios refer to (default: the first one with each driver)",
        )
        parser.add_argument(
            "--sweep",
            choices=("iterations", "pool-size"),
            help="vary this instead of the workload: what grows with the number of operations, and "
            "what with the size of the pool",
        )
        for option, meaning in (
            ("quick", "the gain within 30 seconds; not enough to tell close contenders apart"),
            ("details", "tables before the verdict"),
            ("yes", "do not ask before using a server elsewhere"),
            ("health-checks", "every pool tests each connection with a round trip before its use"),
            ("pin", "contenders and everything else use different processors"),
            ("clean", "remove what runs that were killed have left behind, and do nothing else"),
        ):
            parser.add_argument(f"--{option}", action="store_true", help=meaning)
        plan = Plan()
        for name, (convert, meaning) in arguments.VALUES.items():
            value = getattr(plan, name)
            meaning += f" (default: {value})" if value else ""
            option = name.replace("_", "-")
            parser.add_argument(f"--{option}", type=convert, metavar="N", help=meaning)
        parser.add_argument(
            "--compare",
            nargs=2,
            type=Path,
            metavar=("OLD", "NEW"),
            help="compare two files of --json, and measure nothing",
        )
        parser.add_argument(
            "--fail-below",
            type=float,
            metavar="N",
            help="with --compare: fail if a ratio is less than so many times the old one",
        )
        for option, what in (
            ("json", "everything, as data"),
            ("markdown", "the verdict and tables"),
            ("report", "a page with charts, in one HTML file"),
        ):
            parser.add_argument(f"--{option}", type=Path, metavar="FILE", help=f"write {what}")

    def handle(self, **options: Any) -> None:
        if options["compare"]:
            old, new = options["compare"]
            self.compare_files(old, new, options["fail_below"])
            return
        if options["fail_below"] is not None:
            raise CommandError("--fail-below needs --compare")
        files = _output_files(options)
        try:
            with terminated_like_interrupted():
                if options["clean"]:
                    self.clean(options)
                    return
                document = self.run(options)
                # The files first: the reader of the screen may be gone (`| head`).
                for name, path in files.items():
                    path.write_text(WRITERS[name](document), encoding="utf-8")
                text.render(document, self.stdout, details=options["details"])  # type: ignore[arg-type]
        except KeyboardInterrupt:
            raise CommandError("interrupted; everything made was removed", returncode=130) from None
        except (ArgumentError, SetupError, DatabaseError) as error:
            raise CommandError(str(error)) from error
        if (problem := document["interrupted"]) is not None:
            code = 130 if problem == "interrupted" else 1
            raise CommandError(f"{problem}; shown is what was measured before", returncode=code)

    def run(self, options: Mapping[str, Any]) -> Document:
        alias = options["database"]
        own = any(each.kind == "own" for each in arguments.workloads_of(options))
        if own:
            alias = alias or DEFAULT_DB_ALIAS
        if alias is not None:
            vendors: tuple[str, ...] = (vendor_of_alias(alias),)
            self.confirm(alias, yes=options["yes"])
        else:
            vendors = arguments.vendors_for(options)
        return self.measure(arguments.make_plan(vendors, options), vendors, alias, own=own)

    def confirm(self, alias: str, *, yes: bool) -> None:
        """Ask before the benchmark runs on another machine."""
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

    def measure(
        self, plan: Plan, vendors: tuple[str, ...], alias: str | None, *, own: bool = False
    ) -> Document:
        if alias is not None and own:
            project = os.environ.get("DJANGO_SETTINGS_MODULE", "")
            providers: list[Any] = [nullcontext(OwnProvider(alias, project))]
        elif alias is not None:
            providers = [provider_of_alias(alias)]
        else:
            needed = plan.most_connections()
            providers = [private_provider(vendor, needed) for vendor in vendors]
        self.stderr.style_func = None
        self.stderr.ending = ""
        if plan.rounds >= ENOUGH_ROUNDS:  # else nobody would quote it
            environment.wait_until_quiet(lambda text: self.stderr.write(f"{text}\n"))
        if plan.pin and hasattr(os, "sched_setaffinity"):
            # Also for the private server, which inherits it; contenders get the others.
            os.sched_setaffinity(0, environment.processors(load=False))
        trials = sum(plan.trials(vendor) for vendor in vendors)
        try:
            with report_progress(self.stderr, trials) as on_step:  # type: ignore[arg-type]
                return measure(plan, providers, on_step)
        finally:
            if plan.pin and environment.PROCESSORS:
                os.sched_setaffinity(0, environment.PROCESSORS)

    def clean(self, options: Mapping[str, Any]) -> None:
        """Remove what runs that were killed have left behind."""
        alias = options["database"]
        if alias is not None:
            self.confirm(alias, yes=options["yes"])
        with provider_of_alias(alias) if alias else private_provider(SQLITE) as provider:
            found = provider.left_behind()
            for name, mark in found.items():
                provider.remove(name)
                self.stdout.write(f"removed {name} ({mark})")
            if not found:
                self.stdout.write(f"{provider.title}: no run has left anything behind")

    def compare_files(self, old: Path, new: Path, fail_below: float | None) -> None:
        """Compare two runs; fail if one of the ratios has become too small."""
        try:
            found = compare.changes(compare.load(old), compare.load(new))
        except compare.DocumentError as error:
            raise CommandError(str(error)) from error
        for each in found:
            self.stdout.write(str(each))
        if not found:
            raise CommandError(f"{old} and {new} have no measurement in common")
        worse = [each.title for each in found if each.change.value < (fail_below or 0)]
        if worse:
            raise CommandError(f"less than {fail_below:g} times the old ratio: {'; '.join(worse)}")


def _output_files(options: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files to write; what cannot be written is an error before anything is measured."""
    files = {name: options[name] for name in WRITERS if options[name] is not None}
    seen: dict[Path, str] = {}
    for name, path in files.items():
        if not path.resolve().parent.is_dir():
            raise CommandError(f"--{name} {path}: there is no such folder")
        if path.is_dir():
            raise CommandError(f"--{name} {path}: that is a folder")
        if (other := seen.setdefault(path.resolve(), name)) != name:
            raise CommandError(f"--{other} and --{name} would write the same file, {path}")
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
