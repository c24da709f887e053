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
from pooling.fleet.server_sessions import VENDORS, read_outside
from pooling.fleet.snapshots import identity_of, redacted
from pooling.management import poolstats_table
from pooling.registry import pool_of_alias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.core.management.base import CommandParser

    from pooling.core.config import PoolConfig

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
"""Switch to the terminal's second screen and back, which leaves the first one as it was."""

CLEAR = "\x1b[H\x1b[J"
"""Move the terminal's cursor to the first line and clear what is below."""


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
            "--server",
            action="store_true",
            help="also the sessions on the servers; opens a connection to each, outside the pools",
        )
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
        server: bool,
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

        def servers() -> list[dict[str, Any]] | None:
            return sessions(alias, pool) if server else None

        left = 1 if watch is None else count
        screen = watch is not None and self.stdout.isatty() and not json
        text, before = "", None
        try:
            if screen:
                self.stdout.write(ENTER, ending="")
            while True:
                seen = fleet.read_all()
                live = watch is not None
                text = self.text(seen, before, wanted, servers(), as_json=json, live=live)
                self.stdout.write(CLEAR + text if screen else text, ending="")
                self.stdout.flush()
                before = seen
                if left is not None:
                    left -= 1
                    if left < 1:
                        return
                sleep(watch or 0.0)
        except KeyboardInterrupt:
            pass  # the ordinary way to stop watching
        finally:
            if screen:
                self.stdout.write(LEAVE + text, ending="")

    def text(
        self,
        seen: fleet.Fleet,
        before: fleet.Fleet | None,
        wanted: Any,
        servers: list[dict[str, Any]] | None,
        *,
        as_json: bool,
        live: bool,
    ) -> str:
        """Return what is shown of the fleet; `before` is what was seen last."""
        processes = poolstats_table.selected(seen.processes, wanted)
        if as_json:
            about = {
                "alone": seen.isolation_reason,
                "problem": seen.problem,
                "processes": with_states(processes),
                **({} if servers is None else {"servers": servers}),
            }
            # With --watch one line per repetition, so that each line is a JSON document.
            return json.dumps(about, indent=None if live else 2) + "\n"
        parts = []
        if live:
            parts.append(poolstats_table.clock_and_rates(seen, before, wanted))
        parts.append(
            poolstats_table.render(
                processes,
                isolation_reason=seen.isolation_reason,
                problem=seen.problem,
                width=shutil.get_terminal_size().columns if self.stdout.isatty() else None,
            )
        )
        parts += map(poolstats_table.server, servers or [])
        return "\n".join(parts) + "\n" * live


def sessions(alias: str | None, pool: str | None) -> list[dict[str, Any]]:
    """Return the sessions on the servers of the configured pools, each database once."""
    found: dict[str, dict[str, Any]] = {}
    for name, _, config in pooled():
        if alias not in (None, name) or pool not in (None, config.name):
            continue
        own = pool_of_alias(name)
        identity = identity_of(own)
        if identity["vendor"] not in VENDORS or identity["id"] in found:
            continue
        try:
            answer = read_outside(own)
        except Exception as error:
            answer = {"problem": redacted(own, str(error).strip() or type(error).__name__)}
        found[identity["id"]] = {**identity, **answer}
    return list(found.values())


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
