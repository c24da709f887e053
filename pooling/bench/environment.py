"""The environment of a run: the machine and the versions."""

from __future__ import annotations

import os
import platform
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pooling

from .polling import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

# From the name of a module to that of its package.
PACKAGES = {
    "pooling": "pooling",
    "asyncpg": "asyncpg",
    "dj_db_conn_pool": "django-db-connection-pool",
    "django": "Django",
    "MySQLdb": "mysqlclient",
    "psycopg": "psycopg",
    "psycopg2": "psycopg2",
    "psycopg_pool": "psycopg-pool",
    "pymysql": "PyMySQL",
    "sqlalchemy": "SQLAlchemy",
}


# How to install what is not part of the extra `bench`.
REMEDIES = {
    "psycopg": "pip install 'django-pooling[psycopg]'",
    "psycopg2": "pip install 'django-pooling[psycopg2]'",
    "pgbouncer": "apt install pgbouncer",
    "mariadbd": "apt install mariadb-server",
    "mariadb-install-db": "apt install mariadb-server",
}
USUAL_REMEDY = "pip install 'django-pooling[bench]'"
QUIET_WITHIN = 60.0


def missing_modules(modules: tuple[str, ...]) -> str:
    """Say which packages are not installed, and how to install them; "" if none is missing."""
    lacking = [name for name in modules if find_spec(name) is None]
    names = ", ".join(PACKAGES.get(name, name) for name in lacking)
    return f"not installed: {names}; {_remedies(lacking)}" if lacking else ""


def missing_programs(programs: tuple[str, ...]) -> str:
    """Say which programs are not installed, and how to install them; "" if none is missing."""
    lacking = [name for name in programs if find_program(name) is None]
    return f"not installed: {', '.join(lacking)}; {_remedies(lacking)}" if lacking else ""


def find_program(name: str) -> str | None:
    """Return where a program is, also in the folders that only root searches."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _remedies(lacking: list[str]) -> str:
    return ", ".join(dict.fromkeys(REMEDIES.get(name, USUAL_REMEDY) for name in lacking))


def wait_until_quiet(say: Callable[[str], object], within: float = QUIET_WITHIN) -> None:
    """Wait for a machine that is busier than its cores, at most a minute."""
    cores = os.cpu_count() or 1
    with suppress(OSError, AttributeError):  # unobtainable, or not Unix
        if os.getloadavg()[0] > cores:
            say(f"waiting up to {within:g} s: a load of {os.getloadavg()[0]:.1f} on {cores} cores")
            wait_until(lambda: os.getloadavg()[0] <= cores, within, every=1.0)


def version_of(module: str) -> str:
    """Return the version of the package that a module comes from, or "?"."""
    if module == "pooling":
        return pooling.__version__
    package = PACKAGES.get(module, module)
    for name in (package, f"{package}-binary"):
        with suppress(PackageNotFoundError):
            return version(name)
    return "?"


def describe() -> dict[str, Any]:
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


def processors(*, load: bool) -> tuple[int, ...]:
    """Return the processors for the load, or for everything else; the same one if there is one."""
    available = PROCESSORS or tuple(range(os.cpu_count() or 1))
    half = len(available) // 2
    return (available[half:] if load else available[:half]) or available


PROCESSORS = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
"""Those that this process may use when it begins."""
