"""`manage.py poolbench`: how much does pooling pay on this machine?"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from pooling.bench import environment, report
from pooling.bench.arenas import ArenaError
from pooling.bench.progress import report_progress
from pooling.bench.runner import ContenderError, Plan, run
from pooling.bench.sessions import VENDORS, arena_of_alias, private_arena

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.core.management.base import CommandParser

    from pooling.bench.runner import Result

DEFAULTS = Plan()


class Command(BaseCommand):
    help = (
        "Measures Django's database backends against the pooled ones: users created, read, updated "
        "and deleted through the ORM, and connecting alone. Uses databases of its own and removes "
        "them: SQLite files and a private PostgreSQL, or new databases on the server of --database."
    )
    # It has databases of its own, and says nothing about the project's.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        where = parser.add_mutually_exclusive_group()
        where.add_argument(
            "--engine",
            choices=VENDORS,
            help="only this one; both, if nothing is said",
        )
        where.add_argument(
            "--database",
            metavar="ALIAS",
            help="new databases on the server, or beside the file, of this entry of DATABASES",
        )
        for option, default, meaning in (
            ("--rounds", DEFAULTS.rounds, "how often each side has its turn"),
            ("--iterations", DEFAULTS.iterations, "operations of each kind in a round"),
            ("--pool-size", DEFAULTS.pool_size, "max_size of the pools"),
        ):
            parser.add_argument(
                option, type=at_least_one, default=default, help=f"{meaning} (default: %(default)s)"
            )
        parser.add_argument(
            "--threads",
            type=numbers_of_threads,
            default=DEFAULTS.threads,
            metavar="N[,N...]",
            help="measure with so many threads (default: 1,8)",
        )
        parser.add_argument("--seed", type=int, default=DEFAULTS.seed, help="for the users' data")
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")

    def handle(
        self,
        *,
        engine: str | None,
        database: str | None,
        rounds: int,
        iterations: int,
        pool_size: int,
        threads: tuple[int, ...],
        seed: int,
        json: Path | None,
        **_: Any,
    ) -> None:
        plan = Plan(
            rounds=rounds, iterations=iterations, pool_size=pool_size, threads=threads, seed=seed
        )
        if json is not None and not json.resolve().parent.is_dir():
            raise CommandError(f"--json {json}: there is no such folder")
        try:
            with terminated_like_interrupted():
                results = self.measure(plan, engine, database)
        except KeyboardInterrupt:
            raise CommandError("interrupted; everything made was removed", returncode=130) from None
        except (ArenaError, ContenderError, DatabaseError) as error:
            raise CommandError(str(error)) from error
        found = environment.describe()
        width = shutil.get_terminal_size().columns if self.stdout.isatty() else None
        self.stdout.write(report.render(results, found, plan, width=width))
        if json is not None:
            write_json(json, report.as_json(results, found, plan))

    def measure(self, plan: Plan, engine: str | None, database: str | None) -> list[Result]:
        if database is not None:
            arenas = [arena_of_alias(database)]
        else:
            arenas = [private_arena(vendor) for vendor in VENDORS if engine in (None, vendor)]
        # Progress belongs to the terminal and not to the report, which may go to a file.
        self.stderr.style_func = None
        self.stderr.ending = ""
        results = []
        with ExitStack() as stack:
            on_turn = stack.enter_context(
                report_progress(self.stderr, plan.turns * len(arenas))  # type: ignore[arg-type]
            )
            for opening in arenas:
                with opening as arena:
                    results.append(run(arena, plan, on_turn))
        return results


def at_least_one(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 is needed")
    return number


def numbers_of_threads(text: str) -> tuple[int, ...]:
    numbers = tuple(dict.fromkeys(at_least_one(part.strip()) for part in text.split(",")))
    if max(numbers) > 100:
        raise argparse.ArgumentTypeError(f"{text!r}: 100 threads at most")
    return numbers


def write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n")


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
