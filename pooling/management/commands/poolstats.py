"""`manage.py poolstats`: show the pools of all processes and their leases."""

from __future__ import annotations

import argparse
import json
import shutil
from time import sleep
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.utils.connection import ConnectionDoesNotExist

from pooling import fleet
from pooling.checks.options import pooled
from pooling.fleet.aggregate import with_states
from pooling.management import poolstats_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.core.management.base import CommandParser

    from pooling.core.config import PoolConfig

CLEAR = "\x1b[H\x1b[2J"
"""Move the terminal's cursor to the first line and clear the screen."""


class Command(BaseCommand):
    help = (
        "Shows the connection pools of all processes, like PgBouncer's SHOW POOLS, and their "
        "leases. Opens no connection itself."
    )
    # To work while the database is unavailable or the settings have errors.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--alias", help="only the pool of this entry of DATABASES")
        parser.add_argument("--pool", help="only pools of this name")
        parser.add_argument("--json", action="store_true", help="all statistics as JSON")
        parser.add_argument(
            "--watch",
            nargs="?",
            type=pause,
            const=2.0,
            metavar="SECONDS",
            help="repeat every SECONDS (default: 2) until Ctrl-C",
        )
        parser.add_argument(
            "--count", type=at_least_one, metavar="N", help="with --watch: end after N repetitions"
        )

    def handle(
        self,
        *,
        alias: str | None,
        pool: str | None,
        json: bool,
        watch: float | None,
        count: int | None,
        **_: Any,
    ) -> None:
        if count is not None and watch is None:
            raise CommandError("--count needs --watch")
        config = config_of(alias) if alias is not None else None

        def wanted(entry: Mapping[str, Any]) -> bool:
            mine = alias is None or config is None or poolstats_table.is_of(entry, alias, config)
            return mine and (pool is None or entry["name"] == pool)

        if pool is not None:
            require_pool(pool)
        left = 1 if watch is None else count
        try:
            while True:
                self.show(wanted, as_json=json, live=watch is not None)
                if left is not None:
                    left -= 1
                    if left < 1:
                        return
                sleep(watch or 0.0)
        except KeyboardInterrupt:
            # Ctrl-C is the ordinary way to stop watching.
            self.stdout.write("")

    def show(self, wanted: Any, *, as_json: bool, live: bool) -> None:
        seen = fleet.read_all()
        processes = poolstats_table.selected(seen.processes, wanted)
        if as_json:
            about = {
                "alone": seen.isolation_reason,
                "problem": seen.problem,
                "processes": with_states(processes),
            }
            # With --watch one line per repetition, so that each line is a JSON document.
            self.stdout.write(json.dumps(about, indent=None if live else 2))
        else:
            terminal = self.stdout.isatty()
            if live and terminal:
                self.stdout.write(CLEAR, ending="")
            width = shutil.get_terminal_size().columns if terminal else None
            self.stdout.write(
                poolstats_table.render(
                    processes,
                    isolation_reason=seen.isolation_reason,
                    problem=seen.problem,
                    width=width,
                ),
                ending="\n" if live else "",
            )
        self.stdout.flush()


def config_of(alias: str) -> PoolConfig:
    try:
        return poolstats_table.config_of(alias)
    except (ConnectionDoesNotExist, ImproperlyConfigured) as error:
        raise CommandError(f"--alias {alias}: {error}") from error


def require_pool(name: str) -> None:
    """Raise an error if no process uses such a pool and `DATABASES` has none of this name."""
    known = {config.name for _, _, config in pooled()}
    known.update(pool["name"] for process in fleet.processes() for pool in process["pools"])
    if name not in known:
        names = ", ".join(map(repr, sorted(known))) or "none"
        raise CommandError(f"--pool {name}: there is no such pool; known pools: {names}")


def pause(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r}: a number of seconds above 0 is needed")
    return seconds


def at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 is needed")
    return int(text)
