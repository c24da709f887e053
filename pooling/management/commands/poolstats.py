"""`manage.py poolstats`: the pools of all processes, and who holds connections."""

from __future__ import annotations

import argparse
import json
import shutil
from time import sleep
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.utils.connection import ConnectionDoesNotExist

from pooling import fleet, overview

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.core.management.base import CommandParser

    from pooling.core.config import PoolConfig

CLEAR = "\x1b[H\x1b[2J"
"""Moves a terminal's cursor to the first line and clears the screen."""


class Command(BaseCommand):
    help = (
        "Shows the connection pools of all processes, like PgBouncer's SHOW POOLS, and who holds "
        "connections. Opens no connection itself."
    )
    # To be of use when the database, or the settings, are the problem.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--alias", help="only the pool of this entry of DATABASES")
        parser.add_argument("--pool", help="only pools of this name")
        parser.add_argument("--json", action="store_true", help="all there is, for programs")
        parser.add_argument(
            "--watch",
            nargs="?",
            type=pause,
            const=2.0,
            metavar="SECONDS",
            help="again and again, every 2 seconds if nothing is said, until Ctrl-C",
        )
        parser.add_argument(
            "--count", type=at_least_one, metavar="N", help="with --watch: so many times, and end"
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
            mine = alias is None or config is None or overview.is_of(entry, alias, config)
            return mine and (pool is None or entry["name"] == pool)

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
            # Ctrl-C is how one stops watching, and no failure.
            self.stdout.write("")

    def show(self, wanted: Any, *, as_json: bool, live: bool) -> None:
        seen = fleet.read_all()
        processes = overview.selected(seen.processes, wanted)
        if as_json:
            about = {
                "alone": seen.isolation_reason,
                "problem": seen.problem,
                "processes": processes,
            }
            # One line for each look, so that the lines of --watch can be read one by one.
            self.stdout.write(json.dumps(about, indent=None if live else 2))
        else:
            terminal = self.stdout.isatty()
            if live and terminal:
                self.stdout.write(CLEAR, ending="")
            width = shutil.get_terminal_size().columns if terminal else None
            self.stdout.write(
                overview.render(
                    processes, alone=seen.isolation_reason, problem=seen.problem, width=width
                ),
                ending="\n" if live else "",
            )
        self.stdout.flush()


def config_of(alias: str) -> PoolConfig:
    try:
        return overview.config_of(alias)
    except (ConnectionDoesNotExist, ImproperlyConfigured) as error:
        raise CommandError(f"--alias {alias}: {error}") from error


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
