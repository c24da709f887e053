"""The environment of a run: the machine and the versions."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pooling

if TYPE_CHECKING:
    from .results import Environment

# From the name of a module to that of its package.
PACKAGES = {
    "pooling": "pooling",
    "asyncpg": "asyncpg",
    "dj_db_conn_pool": "django-db-connection-pool",
    "django": "Django",
    "psycopg": "psycopg",
    "psycopg2": "psycopg2",
    "psycopg_pool": "psycopg-pool",
    "sqlalchemy": "SQLAlchemy",
}


def missing_modules(modules: tuple[str, ...]) -> str:
    """Say which packages are not installed; "" if none is missing."""
    lacking = [PACKAGES.get(name, name) for name in modules if find_spec(name) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def version_of(module: str) -> str:
    """Return the version of the package that a module comes from, or "?"."""
    if module == "pooling":
        return pooling.__version__
    package = PACKAGES.get(module, module)
    for name in (package, f"{package}-binary"):
        with suppress(PackageNotFoundError):
            return version(name)
    return "?"


def describe() -> Environment:
    """Return the machine and the versions; the servers are added later."""
    versions = {name: version_of(module) for module, name in PACKAGES.items()}
    load, memory = None, None
    with suppress(OSError, AttributeError):  # unobtainable, or not Unix
        load = [round(each, 2) for each in os.getloadavg()]
    with suppress(OSError, ValueError, AttributeError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _processor(),
        "cores": os.cpu_count() or 1,
        "load_average": load,
        "memory_mb": memory,
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: found for name, found in versions.items() if found != "?"},
        "servers": {},
    }


def _processor() -> str:
    with suppress(OSError):  # not Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
