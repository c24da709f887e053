"""One process and its pools, as plain data without secrets."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import secrets
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from pooling.backends.driver import driver_of
from pooling.core import forks
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pooling.core.histogram import HistogramSnapshot
    from pooling.core.pool import Pool
    from pooling.core.stats import PoolStats
    from pooling.fleet.history import History

MOST_HOLDERS = 100
"""How many of the oldest leases a snapshot tells of."""

MOST_STACKS = 20
"""How many of these with the stack: a snapshot has to fit into a cache, Memcached takes 1 MB."""

SECRET_OPTIONS = ("password", "passwd", "sslpassword", "passphrase", "key", "token")
"""Words in the names of options whose values are kept out of every text."""

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Identity:
    """Who this process is. A fork makes a new one, and a process id that is used again another."""

    def __init__(self) -> None:
        self._begin()
        forks.register(self)

    def _begin(self) -> None:
        self.pid = os.getpid()
        self.host = socket.gethostname()
        self.started = time.time()
        self.id = f"{self.host}:{self.pid}:{secrets.token_hex(4)}"

    def after_fork_in_child(self) -> None:
        """Be somebody else than the parent."""
        self._begin()


IDENTITY = Identity()


def snapshot(histories: Mapping[Pool[Any], History] | None = None) -> dict[str, Any]:
    """Return this process and its pools as data that JSON can hold. Never waits for a connection.

    There is no password in it, and no connection string.

    Args:
        histories: what is known of the last minutes; by default what this process publishes.
    """
    from pooling.fleet.publisher import PUBLISHER

    if histories is None:
        histories = PUBLISHER.histories()
    return {
        "id": IDENTITY.id,
        "host": IDENTITY.host,
        "pid": IDENTITY.pid,
        "command": command_name(sys.argv),
        "python": platform.python_version(),
        "started": IDENTITY.started,
        "time": time.time(),
        "threads": threading.active_count(),
        "pools": sorted(
            (_pool(pool, histories.get(pool)) for pool in REGISTRY.pools()),
            key=lambda entry: (entry["name"], entry["database"]),
        ),
    }


def command_name(argv: list[str]) -> str:
    """Return what the process was started as: the program, and Django's command, nothing more."""
    program = Path(argv[0]) if argv and argv[0] not in ("", "-c", "-m") else None
    if program is None:
        return "python"
    name = program.parent.name if program.name == "__main__.py" else program.name
    django = name in ("manage.py", "django-admin", "django")
    if django and len(argv) > 1 and re.fullmatch(r"[a-z][a-z0-9_]*", argv[1]):
        return f"{name} {argv[1]}"
    return name


def _pool(pool: Pool[Any], history: History | None) -> dict[str, Any]:
    driver = driver_of(pool)
    settings: Mapping[str, Any] = {}
    aliases: list[str] = []
    vendor = "unknown"
    if driver is not None:
        settings, aliases, vendor = driver.settings, sorted(driver.aliases), driver.vendor
    clean = _Cleaner(settings)
    stats = pool.stats()
    holders = pool.holders()
    return {
        "name": pool.name,
        "aliases": aliases,
        "vendor": vendor,
        "database": clean(_database(settings)),
        "host": clean(str(settings.get("HOST") or "")),
        "port": str(settings.get("PORT") or ""),
        "user": clean(str(settings.get("USER") or "")),
        "options": dataclasses.asdict(pool.config),
        "stats": _stats(stats, clean),
        "holders": [
            {
                "thread": clean(holder.thread),
                "seconds": round(holder.seconds, 3),
                "note": clean(holder.note),
                "stack": clean(holder.stack) if place < MOST_STACKS else None,
            }
            for place, holder in enumerate(holders[:MOST_HOLDERS])
        ],
        "more_holders": max(len(holders) - MOST_HOLDERS, 0),
        "history": None if history is None else history.as_dict(),
    }


def cleaned(pool: Pool[Any], text: str) -> str:
    """Return `text` without the secrets of the pool's settings."""
    driver = driver_of(pool)
    return _Cleaner({} if driver is None else driver.settings)(text)


def _stats(stats: PoolStats, clean: _Cleaner) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        field.name: getattr(stats, field.name) for field in dataclasses.fields(stats)
    }
    numbers["waits"] = durations(stats.waits)
    numbers["holds"] = durations(stats.holds)
    numbers["last_error"] = clean(stats.last_error)
    numbers["discards"] = {str(reason): count for reason, count in stats.discards.items()}
    return numbers


def durations(measured: HistogramSnapshot) -> dict[str, Any]:
    """Return counted durations with their quantiles; buckets without the empty ones at the end."""
    buckets = list(measured.buckets)
    while buckets and not buckets[-1]:
        buckets.pop()
    return {
        "count": measured.count,
        "seconds": measured.seconds,
        "buckets": buckets,
        **{name: measured.quantile(part) for name, part in QUANTILES.items()},
    }


def _database(settings: Mapping[str, Any]) -> str:
    """Return a database's name; what may be a connection string instead shows nothing."""
    name = str(settings.get("NAME") or "")
    if name.startswith("file:"):
        return name.partition("?")[0]
    if "://" in name or "password" in name.lower():
        return "(a connection string)"
    return name


class _Cleaner:
    """Replaces the secrets of a database's settings wherever they come up, say in errors."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        found = {settings.get("PASSWORD")}
        for name, value in (settings.get("OPTIONS") or {}).items():
            if any(word in str(name).lower() for word in SECRET_OPTIONS):
                found.add(value)
        texts = {value for value in found if isinstance(value, str) and len(value) > 2}
        self._secrets = sorted(texts, key=len, reverse=True)

    @overload
    def __call__(self, text: str) -> str: ...
    @overload
    def __call__(self, text: None) -> None: ...
    def __call__(self, text: str | None) -> str | None:
        if text is not None:
            for secret in self._secrets:
                text = text.replace(secret, "********")
        return text
