"""Number of processes and threads of this deployment, from the settings and the environment."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """A number and its source."""

    number: int
    source: str


def processes() -> Known | None:
    """Return how many processes use the database on all hosts, None if unknown."""
    return (
        _setting("processes")
        or _argument(("--workers", "-w"))
        or _variable("WEB_CONCURRENCY")  # the default of gunicorn and uvicorn
    )


def threads() -> Known | None:
    """Return how many threads of a process use the database, None if unknown.

    `gunicorn.conf.py` and the command lines of other processes are not read.
    """
    return _setting("threads") or _argument(("--threads",))


def _setting(name: str) -> Known | None:
    options = getattr(settings, "POOLING", None)
    value: Any = options.get(name) if isinstance(options, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return None
    return Known(value, f"POOLING[{name!r}]")


def _variable(name: str) -> Known | None:
    return _known(os.environ.get(name), f"the environment variable {name}")


def _argument(names: Sequence[str]) -> Known | None:
    """Read an option from gunicorn's environment variable."""
    try:
        arguments = shlex.split(os.environ.get("GUNICORN_CMD_ARGS", ""))
    except ValueError:
        return None
    found = None
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        for name in names:
            if argument == name:
                found = following
            elif argument.startswith(f"{name}="):
                found = argument.partition("=")[2]
            elif len(name) == 2 and argument.startswith(name) and argument[2:].isdigit():
                found = argument[2:]
    return _known(found, f"{names[0]} in GUNICORN_CMD_ARGS")


def _known(text: str | None, source: str) -> Known | None:
    number = int(text) if text is not None and text.isdecimal() else 0
    return Known(number, source) if number >= 1 else None
