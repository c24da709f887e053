"""What is known of the processes and threads that serve this project, and from where."""

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
    """A number, and who says so."""

    number: int
    source: str


def processes() -> Known | None:
    """Return how many processes use the database, all hosts together, if that can be known."""
    return (
        _setting("processes")
        or _argument(("--workers", "-w"))
        or _variable("WEB_CONCURRENCY")  # gunicorn's and uvicorn's default for the workers
    )


def threads() -> Known | None:
    """Return how many threads of a process use the database, if that can be known.

    A `gunicorn.conf.py` is a program, and command lines are those of other processes, so neither
    is looked at.
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
    """Look for an option among those that gunicorn takes from the environment."""
    try:
        words = shlex.split(os.environ.get("GUNICORN_CMD_ARGS", ""))
    except ValueError:
        return None
    found = None
    for word, following in zip(words, [*words, ""][1:], strict=True):
        for name in names:
            if word == name:
                found = following
            elif word.startswith(f"{name}="):
                found = word.partition("=")[2]
            elif len(name) == 2 and word.startswith(name) and word[2:].isdigit():
                found = word[2:]
    return _known(found, f"{names[0]} in GUNICORN_CMD_ARGS")


def _known(text: str | None, source: str) -> Known | None:
    number = int(text) if text is not None and text.isdecimal() else 0
    return Known(number, source) if number >= 1 else None
