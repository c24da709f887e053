"""The environment of a run: the machine and the versions."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pooling

from .contenders import PACKAGES, version_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .results import Environment

T = TypeVar("T")


def describe() -> Environment:
    """Return the machine and the versions; the servers are added later."""
    packages = {package: version_of(module) for module, package in PACKAGES.items()}
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _processor(),
        "cores": os.cpu_count() or 1,
        "load_average": _or_none(lambda: [round(each, 2) for each in os.getloadavg()]),
        "memory_mb": _or_none(
            lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        ),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {
            "pooling": pooling.__version__,
            **{package: found for package, found in packages.items() if found != "?"},
        },
        "servers": {},
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def _or_none(measure: Callable[[], T]) -> T | None:
    try:
        return measure()
    except (OSError, ValueError, AttributeError):  # unobtainable, or not Unix
        return None
