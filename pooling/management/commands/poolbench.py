"""`manage.py poolbench`: what does pooling give here, and which pool?"""

from __future__ import annotations

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
from pooling.bench.adapters.base import VENDORS
from pooling.bench.arguments import ArgumentError
from pooling.bench.contenders import CONTENDERS
from pooling.bench.databases import (
    SetupError,
    distant_host,
    private_provider,
    provider_of_alias,
    vendor_of_alias,
)
from pooling.bench.plan import Plan
from pooling.bench.progress import report_progress
from pooling.bench.reports import WRITERS, table
from pooling.bench.runner import measure
from pooling.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from django.core.management.base import CommandParser

    from pooling.bench.results import Document


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
        for option, choices in (("contender", CONTENDERS), ("workload", WORKLOADS)):
            meaning = f"only these: {', '.join(choices)}"
            parser.add_argument(
                f"--{option}", action="append", metavar="NAME[,NAME...]", help=meaning
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
        for option, meaning in (
            ("quick", "a first impression, within about 20 seconds"),
            ("yes", "do not ask before using a server elsewhere"),
            ("health-checks", "every pool tests each connection with a round trip before its use"),
        ):
            parser.add_argument(f"--{option}", action="store_true", help=meaning)
        plan = Plan()
        for name, (convert, meaning) in arguments.VALUES.items():
            value = getattr(plan, name)
            default = ",".join(map(str, value)) if isinstance(value, tuple) else value
            meaning += f" (default: {default})" if default else ""
            option = name.replace("_", "-")
            parser.add_argument(f"--{option}", type=convert, metavar="N", help=meaning)
        for option, what in (
            ("json", "everything, as data"),
            ("csv", "a line for each result"),
            ("markdown", "tables for a README"),
            ("report", "a page with charts, in one HTML file"),
        ):
            parser.add_argument(f"--{option}", type=Path, metavar="FILE", help=f"write {what}")

    def handle(self, **options: Any) -> None:
        files = _output_files(options)
        try:
            with terminated_like_interrupted():
                document = self.run(options)
                # The files first: the reader of the table may be gone (`| head`).
                for name, path in files.items():
                    path.write_text(WRITERS[name](document), encoding="utf-8")
                table.render(document, self.stdout)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            raise CommandError("interrupted; everything made was removed", returncode=130) from None
        except (ArgumentError, SetupError, DatabaseError) as error:
            raise CommandError(str(error)) from error

    def run(self, options: Mapping[str, Any]) -> Document:
        if (alias := options["database"]) is not None:
            vendors: tuple[str, ...] = (vendor_of_alias(alias),)
            self.confirm(alias, yes=options["yes"])
        else:
            vendors = arguments.vendors_for(options["engine"], options["contender"])
        return self.measure(arguments.make_plan(vendors, options), vendors, alias)

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

    def measure(self, plan: Plan, vendors: tuple[str, ...], alias: str | None) -> Document:
        if alias is not None:
            providers = [provider_of_alias(alias)]
        else:
            needed = plan.most_connections()
            providers = [private_provider(vendor, needed) for vendor in vendors]
        self.stderr.style_func = None
        self.stderr.ending = ""
        trials = sum(plan.trials(vendor) for vendor in vendors)
        with report_progress(self.stderr, trials) as on_step:  # type: ignore[arg-type]
            return measure(plan, providers, on_step)


def _output_files(options: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files to write; a wrong folder is an error before anything is measured."""
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
