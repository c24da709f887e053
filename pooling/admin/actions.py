"""What the page can do to a pool, in words and deeds."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import connections

from pooling.admin.words import count, duration
from pooling.core.workers import WORKERS
from pooling.models import ConnectionPool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pooling.admin.door import Visitor

logger = logging.getLogger("pooling")

BUTTONS = {
    "drain": "Drain",
    "resize": "Resize",
    "suspend": "Suspend",
    "resume": "Resume",
    "clear": "Clear statistics",
}

DONE = {
    "drain": "is being drained",
    "resize": "is being resized",
    "suspend": "is being suspended",
    "resume": "is being resumed",
    "clear": "begins to count from zero",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """An action somebody wants, as the form says it."""

    action: str
    pool: str
    arguments: dict[str, int]

    @property
    def words(self) -> str:
        """What is done, for the log."""
        sizes = ", ".join(f"{name}={size}" for name, size in self.arguments.items())
        return f"{BUTTONS[self.action]}{': ' * bool(sizes)}{sizes}"

    @property
    def done(self) -> str:
        """What was done, for whoever did it."""
        return f"Pool “{self.pool}” {DONE[self.action]}"


def read_wish(form: Mapping[str, str], pools: list[dict[str, Any]]) -> tuple[Wish, dict[str, Any]]:
    """Return what a form wants, and the pool it wants it of.

    Args:
        form: what was posted.
        pools: entries of `pooling.fleet.aggregate`.

    Raises:
        ValueError: with what is wrong with it.
    """
    action, name = form.get("action", ""), form.get("pool", "")
    if action not in BUTTONS:
        raise ValueError("There is no such action.")
    pool = next((pool for pool in pools if pool["name"] == name), None)
    if pool is None:
        raise ValueError(f"No process has a pool “{name}” any more.")
    arguments = {}
    if action == "resize":
        for size, label in (("min_size", "Lower limit"), ("max_size", "Upper limit")):
            try:
                arguments[size] = int(form.get(size, ""))
            except ValueError:
                raise ValueError(f"{label}: enter a whole number.") from None
        if arguments["max_size"] > 10_000:
            raise ValueError("Upper limit: no server has so many connections.")
    return Wish(action, name, arguments), pool


def what_it_hurts(wish: Wish, pool: dict[str, Any]) -> list[str]:
    """Return what somebody should know before doing it; nothing if it hurts nobody."""
    stats = pool["stats"]
    processes = count(len(pool["parts"]), "process", "processes")
    if wish.action == "drain":
        replaced = (
            f"All {count(stats['size'], 'connection')} in {processes} will be replaced: the "
            f"{stats['idle']} idle ones now, the {stats['leased']} in use when they come back."
        )
        return [replaced, "Nothing fails, but callers may have to wait until new ones are open."]
    if wish.action == "suspend":
        timeout = pool["options"]["timeout"]
        patience = "without limit" if timeout is None else f"for at most {duration(timeout)}"
        waiting = (
            f"Callers in {processes} will wait, {patience} each, and then fail, until somebody "
            "resumes the pool here."
        )
        leased = "What is in use can be used to the end: " + count(stats["leased"], "connection")
        leased += " at the moment."
        return [waiting, leased, "A process that starts more than a minute later is not suspended."]
    if wish.action == "resize" and wish.arguments["max_size"] < pool["options"]["max_size"]:
        fewer = (
            f"Each of {processes} will have at most {wish.arguments['max_size']} connections "
            f"instead of {pool['options']['max_size']}."
        )
        slower = (
            f"{stats['leased']} are in use now: what is too many is closed when it comes back, and "
            "callers may have to wait longer."
        )
        return [fewer, slower]
    return []


def log(visitor: Visitor, wish: Wish) -> None:
    """Write the action into the admin's log; in the background if the database is in trouble."""
    logger.warning("pool %r: %s, by user %r", wish.pool, wish.words, visitor.name)
    if visitor.by_pass:
        WORKERS.run(lambda: _log_later(visitor, wish))
    else:
        _log(visitor, wish)


def _log_later(visitor: Visitor, wish: Wish) -> None:
    try:
        _log(visitor, wish)
    except Exception as error:
        kind = type(error).__name__
        logger.warning("pool %r: the admin's log could not be written: %s", wish.pool, kind)
    finally:
        connections.close_all()


def _log(visitor: Visitor, wish: Wish) -> None:
    LogEntry.objects.create(
        user_id=visitor.user_id,
        content_type=ContentType.objects.get_for_model(ConnectionPool),
        object_id=wish.pool,
        object_repr=wish.pool[:200],
        action_flag=CHANGE,
        change_message=wish.words,
    )
