"""On what the numbers were made: without it they mean nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import django

import pooling


def describe() -> dict[str, str]:
    """Return the machine and the versions, by name, in the order in which to show them."""
    return {
        "machine": f"{os.cpu_count() or '?'} x {_processor()}, {platform.system()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "django": django.get_version(),
        "pooling": pooling.__version__,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()
