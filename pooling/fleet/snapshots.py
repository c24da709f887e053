"""Snapshot of a process and its pools, as plain data without secrets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
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
from pooling.core.stats import HISTOGRAMS
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pooling.core.histogram import HistogramSnapshot
    from pooling.core.pool import Pool
    from pooling.core.stats import Holder, PoolStats, QueuedCaller
    from pooling.fleet.history import Row

MAX_HOLDERS = 100
"""Leases listed in a snapshot, the oldest ones, and callers in the queue, the first ones."""

MAX_STACKS = 20
"""Leases listed with their stack: a snapshot has to fit into a cache, Memcached takes 1 MB."""

SECRET_OPTIONS = ("password", "passwd", "sslpassword", "passphrase", "key", "token")
"""Parts of the names of `OPTIONS` whose values are redacted in all texts."""

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Identity:
    """Identity of this process; differs after a fork and when a process id is used again."""

    def __init__(self) -> None:
        self._begin()
        forks.register(self)

    def _begin(self) -> None:
        self.pid = os.getpid()
        self.host = socket.gethostname()
        self.started = time.time()
        self.id = f"{self.host}:{self.pid}:{secrets.token_hex(4)}"

    def after_fork_in_child(self) -> None:
        """Take an identity of its own."""
        self._begin()


IDENTITY = Identity()


def snapshot() -> dict[str, Any]:
    """Return this process and its pools as JSON-compatible data. Never waits for a connection.

    It contains no password and no connection string.
    """
    from pooling.fleet.commands import COMMAND_LOG
    from pooling.fleet.publisher import PUBLISHER

    return {
        "id": IDENTITY.id,
        "host": IDENTITY.host,
        "pid": IDENTITY.pid,
        "command": command_name(sys.argv),
        "python": platform.python_version(),
        "started": IDENTITY.started,
        "time": time.time(),
        "threads": threading.active_count(),
        "left": False,
        "done": COMMAND_LOG.executed(),
        "pools": sorted(
            (_pool(pool, *PUBLISHER.recent(pool)) for pool in REGISTRY.pools()),
            key=lambda entry: (entry["name"], entry["database"]),
        ),
    }


def application_name(process: Mapping[str, Any]) -> str:
    """Return how the sessions of a process are called on servers, unless the project names them."""
    pid = f":{process['pid']}"
    host = str(process["host"]).encode("ascii", "replace").decode()
    return f"pooling {host}"[: 63 - len(pid)] + pid


def command_name(argv: list[str]) -> str:
    """Return the program name, with Django's management command if there is one."""
    program = Path(argv[0]) if argv and argv[0] not in ("", "-c", "-m") else None
    if program is None:
        return "python"
    name = program.parent.name if program.name == "__main__.py" else program.name
    django = name in ("manage.py", "django-admin", "django")
    if django and len(argv) > 1 and re.fullmatch(r"[a-z][a-z0-9_]*", argv[1]):
        return f"{name} {argv[1]}"
    return name


def identity_of(pool: Pool[Any]) -> dict[str, str]:
    """Return what a pool is grouped by across processes, and the `id` made of it."""
    driver = driver_of(pool)
    settings: Mapping[str, Any] = {} if driver is None else driver.settings
    redact = Redactor(settings)
    parts = {
        "name": pool.name,
        "vendor": "unknown" if driver is None else driver.vendor,
        "database": redact(_database(settings)),
        "host": redact(str(settings.get("HOST") or "")),
        "port": str(settings.get("PORT") or ""),
        "user": redact(str(settings.get("USER") or "")),
    }
    text = json.dumps(list(parts.values()))
    return {"id": hashlib.sha256(text.encode()).hexdigest()[:12], **parts}


def _pool(pool: Pool[Any], recent: list[Row], held: dict[str, float]) -> dict[str, Any]:
    driver = driver_of(pool)
    redact = Redactor({} if driver is None else driver.settings)
    stats, holders, queue = pool.stats(), pool.holders(), pool.queue()
    configured = pool.config if driver is None else driver.config
    return {
        **identity_of(pool),
        "aliases": [] if driver is None else sorted(driver.aliases),
        "options": dataclasses.asdict(pool.config),
        "configured": {"min_size": configured.min_size, "max_size": configured.max_size},
        "stats": _stats(stats, redact),
        "holders": [
            {
                **_caller(holder, redact),
                "id": holder.id,
                "pinned": holder.pinned,
                "stack": redact(holder.stack) if position < MAX_STACKS else None,
            }
            for position, holder in enumerate(holders[:MAX_HOLDERS])
        ],
        "disruptions": [] if driver is None else list(driver.disruptions),
        "more_holders": max(len(holders) - MAX_HOLDERS, 0),
        "queue": [_caller(caller, redact) for caller in queue[:MAX_HOLDERS]],
        "recent": recent,
        "held": held,
    }


def _caller(caller: Holder | QueuedCaller, redact: Redactor) -> dict[str, Any]:
    return {
        "thread": redact(caller.thread),
        "seconds": round(caller.seconds, 3),
        "note": redact(caller.note),
    }


def redacted(pool: Pool[Any], text: str) -> str:
    """Return `text` without the secrets of the pool's settings."""
    driver = driver_of(pool)
    return Redactor({} if driver is None else driver.settings)(text)


def _stats(stats: PoolStats, redact: Redactor) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        field.name: getattr(stats, field.name) for field in dataclasses.fields(stats)
    }
    numbers |= {name: durations(numbers[name]) for name in HISTOGRAMS}
    numbers["last_error"] = redact(stats.last_error)
    numbers["outage"] = None if stats.outage is None else dataclasses.asdict(stats.outage)
    numbers["discards"] = {str(reason): count for reason, count in stats.discards.items()}
    numbers["pins"] = dict(stats.pins)
    numbers["budget"] = None if stats.budget is None else stats.budget._asdict()
    return numbers


def durations(measured: HistogramSnapshot) -> dict[str, Any]:
    """Return a histogram as a mapping with quantiles; empty buckets at the end are left out."""
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
    """Return the database's name; a connection string is not shown."""
    name = str(settings.get("NAME") or "")
    if name.startswith("file:"):
        return name.partition("?")[0]
    if "://" in name or "password" in name.lower():
        return "(a connection string)"
    return name


class Redactor:
    """Replaces the secrets of a database's settings in texts such as error messages."""

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
