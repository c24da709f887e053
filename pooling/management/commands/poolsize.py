"""`manage.py poolsize`: recommend a pool size."""

from __future__ import annotations

import dataclasses
import json
import os
from time import sleep
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from pooling import deployment, fleet, server_limits, sizing
from pooling.fleet.server_sessions import VENDORS
from pooling.management import poolstats_table
from pooling.management.commands.poolstats import at_least_one

if TYPE_CHECKING:
    from django.core.management.base import CommandParser

    from pooling.core.config import PoolConfig

LOCAL = ("", "localhost", "127.0.0.1", "::1")


class Command(BaseCommand):
    help = (
        "Recommends a max_size and shows the calculation: the demand by Little's law from the "
        "pools of all processes, the server's cores and its max_connections. Lists what is "
        "unknown. Run it under your typical load."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--alias", default="default", help="the entry of DATABASES")
        parser.add_argument(
            "--seconds",
            type=duration,
            default=10.0,
            help="how long to measure the pools; 0: no measurement (default: %(default)g)",
        )
        parser.add_argument(
            "--processes",
            type=at_least_one,
            metavar="N",
            help="processes on all hosts",
        )
        parser.add_argument("--threads", type=at_least_one, metavar="N", help="threads per process")
        parser.add_argument(
            "--server-cores", type=at_least_one, metavar="N", help="cores of the database server"
        )
        parser.add_argument(
            "--spindles",
            type=at_least_one,
            default=1,
            metavar="N",
            help="independent disks of the database server (default: %(default)s, an SSD)",
        )
        parser.add_argument("--json", action="store_true", help="the result as JSON")

    def handle(
        self,
        *,
        alias: str,
        seconds: float,
        processes: int | None,
        threads: int | None,
        server_cores: int | None,
        spindles: int,
        json: bool,
        **_: Any,
    ) -> None:
        try:
            config = poolstats_table.config_of(alias)
            facts = gather(
                alias,
                config,
                measured=measure(alias, config, seconds) if seconds else None,
                processes=processes,
                threads=threads,
                cores=server_cores,
                spindles=spindles,
            )
        except (ConnectionDoesNotExist, ImproperlyConfigured, DatabaseError) as error:
            raise CommandError(f"--alias {alias}: {error}") from error
        except KeyboardInterrupt:
            raise CommandError("interrupted", returncode=130) from None
        found = sizing.recommend(facts)
        self.stdout.write(as_json(alias, facts, found) if json else as_text(alias, facts, found))


def measure(alias: str, config: PoolConfig, seconds: float) -> sizing.Measured | None:
    """Measure the pools of all processes for some seconds."""

    def read() -> list[dict[str, Any]]:
        return poolstats_table.selected(
            fleet.processes(), lambda pool: poolstats_table.is_of(pool, alias, config)
        )

    before = read()
    sleep(seconds)
    return sizing.measure(before, read())


def gather(
    alias: str,
    config: PoolConfig,
    *,
    measured: sizing.Measured | None,
    processes: int | None,
    threads: int | None,
    cores: int | None,
    spindles: int,
) -> sizing.Facts:
    """Collect the facts from options, settings, environment, fleet and server."""
    number, source = 1, "default"
    known = deployment.processes()
    if processes is not None:
        number, source = processes, "--processes"
    elif known is not None:
        number, source = known.number, known.source
    elif measured is not None:
        number, source = measured.processes, "seen in the cache"
    known_threads = deployment.threads()
    if threads is None and known_threads is not None:
        threads = known_threads.number
    entry = connections[alias].settings_dict
    server, origin = None, "" if cores is None else "--server-cores"
    if connections[alias].vendor in VENDORS:
        server = server_limits.query_server(alias)
        host = str(entry["HOST"])
        if cores is None and (host in LOCAL or host.startswith("/")):
            cores, origin = os.cpu_count(), "cores of this machine, which also runs other work"
    return sizing.Facts(
        max_size=config.max_size,
        processes=number,
        processes_source=source,
        threads=threads,
        cores=cores,
        cores_source=origin,
        spindles=spindles,
        max_connections=None if server is None else server.max_connections,
        reserved=0 if server is None else server.reserved,
        max_user_connections=None if server is None else server.max_user_connections,
        pooler=None if server is None else server.pooler,
        measured=measured,
    )


def as_text(alias: str, facts: sizing.Facts, found: sizing.Recommendation) -> str:
    width = max(len(step.name) for step in found.steps)
    heading = [
        f"max_size for {alias!r}: {found.max_size} in each process (now {facts.max_size})",
        f"Decided by: {found.reason}.",
    ]
    if not found.advice:
        heading = [
            f"No load seen, no advice for {alias!r} (now max_size={facts.max_size}).",
            "Run this command while the load runs. What can be said without it is an upper limit:",
            f"{found.max_size} in each process ({found.reason}).",
        ]
    lines = [
        *heading,
        "",
        "Calculation:",
        *(f"  {step.name:<{width}}  {step.formula}" for step in found.steps),
        "",
        "Unknown:",
        *(f"  - {sentence}" for sentence in found.unknown),
    ]
    return "\n".join(lines)


def as_json(alias: str, facts: sizing.Facts, found: sizing.Recommendation) -> str:
    about = {"alias": alias, "facts": dataclasses.asdict(facts), **found.as_dict()}
    return json.dumps(about, indent=2)


def duration(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise ValueError(text)
    return seconds
