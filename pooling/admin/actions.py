"""Actions of the page: parsing, confirmation texts and the admin's log."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import connections

from pooling.admin.context import servers, setting_line
from pooling.core.worker_threads import WORKERS
from pooling.fleet.commands import LEASE_ACTIONS
from pooling.formatting import duration, plural
from pooling.models import ConnectionPool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pooling.admin.access import Viewer

logger = logging.getLogger("pooling")

BUTTONS = {
    "drain": "Drain",
    "resize": "Resize",
    "suspend": "Suspend",
    "resume": "Resume",
    "clear": "Clear statistics",
    "cancel": "Cancel query",
    "terminate": "End session",
}

DONE = {
    "drain": "is being drained",
    "resize": "is being resized",
    "suspend": "is being suspended",
    "resume": "is being resumed",
    "clear": "has its statistics cleared",
    "cancel": "is asked to cancel a query",
    "terminate": "is asked to end a session",
}


@dataclasses.dataclass(frozen=True, slots=True)
class ActionRequest:
    """An action requested by the form."""

    action: str
    pool: str
    """The `id` of the pool, which names one database."""
    name: str
    arguments: dict[str, int]
    process: str | None = None
    """The `id` of the only process that is to run it."""
    lease: str | None = None
    """The `id` of the lease that it is about."""
    preview: ResizePreview | None = None
    """What a resize would change."""

    @property
    def log_text(self) -> str:
        """Text for the admin's log."""
        sizes = ", ".join(f"{name}={size}" for name, size in self.arguments.items())
        where = "" if self.process is None else f" in process {self.process.rpartition(':')[0]}"
        return f"{BUTTONS[self.action]}{where}{': ' * bool(sizes)}{sizes}"

    @property
    def done(self) -> str:
        """Confirmation shown to the user."""
        return f"Pool “{self.name}” {DONE[self.action]}"


@dataclasses.dataclass(frozen=True, slots=True)
class ResizePreview:
    """What a resize would change, for the question before it.

    Attributes:
        rows: for each process its name, its limits now, those it would have, and how many of its
            connections are in use.
        room: what the server has room for, if that is known.
        setting: the line of the settings that makes it last.
    """

    rows: list[dict[str, Any]]
    room: str | None
    setting: str


def _preview(pool: dict[str, Any], arguments: dict[str, int]) -> ResizePreview:
    rows = [
        {
            "process": f"{process['host']}:{process['pid']}",
            "now": _limits(part["options"]),
            "then": _limits(arguments),
            "leased": part["stats"]["leased"],
        }
        for process, part in pool["live"]
    ]
    room = None
    answers = [each for each in servers(pool) if each["sessions"] is not None]
    if answers:
        most = arguments["max_size"] * len(pool["live"])
        own = sum(part["stats"]["size"] for _, part in pool["live"])
        left = answers[0]["max_connections"] - answers[0]["reserved"] - answers[0]["total"] + own
        fits = "has room for them" if most <= left else f"has room for {left} only"
        room = f"Together they may open {plural(most, 'connection')}; the server {fits}."
    return ResizePreview(rows, room, setting_line(arguments))


def _limits(sizes: Mapping[str, int]) -> str:
    return f"{sizes['min_size']} to {sizes['max_size']}"


def parse_action(
    form: Mapping[str, str], pools: list[dict[str, Any]]
) -> tuple[ActionRequest, dict[str, Any]]:
    """Return the requested action and its pool.

    Args:
        form: the posted form.
        pools: the result of `pooling.fleet.aggregate.aggregate`.

    Raises:
        ValueError: with a text for the user.
    """
    action, id_ = form.get("action", ""), form.get("pool", "")
    if action not in BUTTONS:
        raise ValueError("There is no such action.")
    pool = next((pool for pool in pools if pool["id"] == id_), None)
    if pool is None:
        raise ValueError("No process has this pool any more.")
    process, lease = form.get("process") or None, form.get("lease") or None
    of_lease = action in LEASE_ACTIONS
    if process is not None or of_lease:
        live = [part for part in pool["live"] if part[0]["id"] == process]
        if not live or not (of_lease or action == "drain"):
            raise ValueError("There is no such process any more.")
        # What is asked and told before the action is about this process.
        part = live[0][1]
        pool = {**pool, "live": live, "stats": part["stats"], "holders": part["holders"]}
        if of_lease and (
            action not in part["disruptions"]
            or lease not in [holder["id"] for holder in part["holders"]]
        ):
            raise ValueError("That lease has ended.")
    arguments: dict[str, int] = {}
    preview = None
    if action == "resize":
        for size, label in (("min_size", "Lower limit"), ("max_size", "Upper limit")):
            try:
                arguments[size] = int(form.get(size, ""))
            except ValueError:
                raise ValueError(f"{label}: enter a whole number.") from None
        if arguments["max_size"] > 10_000:
            raise ValueError("Upper limit: at most 10,000.")
        if arguments["min_size"] <= arguments["max_size"]:
            preview = _preview(pool, arguments)
    found = ActionRequest(
        action, id_, pool["name"], arguments, process, lease if of_lease else None, preview
    )
    return found, pool


def action_warnings(action: ActionRequest, pool: dict[str, Any]) -> list[str]:
    """Return the consequences to confirm before the action; empty if it affects no caller."""
    stats = pool["stats"]
    processes = plural(len(pool["live"]), "process", "processes")
    if action.action == "drain":
        replaced = (
            f"All {plural(stats['size'], 'connection')} in {processes} will be replaced: the "
            f"{stats['idle']} idle ones now, the {stats['leased']} in use when they are released."
        )
        return [replaced, "No query fails, but callers may wait until new ones are open."]
    if action.action == "suspend":
        timeout = pool["options"]["timeout"]
        limit = "without limit" if timeout is None else f"for at most {duration(timeout)}"
        waiting = (
            f"Callers in {processes} will wait, {limit} each, and then fail, until the pool is "
            "resumed here."
        )
        leased = f"Leased connections stay usable: {plural(stats['leased'], 'connection')} now."
        return [waiting, leased, "A process that starts more than a minute later is not suspended."]
    if action.action == "resize":
        lasts = (
            f"It holds now for {processes}, and for a day for those that start, as long as the "
            "settings are what they are now."
        )
        fewer = (
            f"In use now: {plural(stats['leased'], 'connection')}. Surplus ones are closed when "
            "they are released, and callers may wait longer."
        )
        grows = action.arguments["max_size"] >= pool["options"]["max_size"]
        return [lasts] if grows else [lasts, fewer]
    if action.action in LEASE_ACTIONS:
        (holder,) = (each for each in pool["holders"] if each["id"] == action.lease)
        about = holder["note"] or f"thread {holder['thread']}"
        held = f"It is held by {about}, for {duration(holder['seconds'])} by now."
        if action.action == "cancel":
            what = (
                "The server is asked to cancel the query that runs in it now, if one does: that "
                "raises an error there. The connection is replaced when it is released."
            )
        else:
            what = (
                "Its transaction is rolled back and its locks are freed. The next query of its "
                "holder raises an error; until it releases the connection the place in the pool "
                "stays taken."
            )
        return [held, what]
    if action.action == "clear":
        return [
            f"The totals of this page begin at zero, now {stats['acquired']:,} leases.",
            "The counters of the metrics and the history go on.",
        ]
    return []


def log(viewer: Viewer, action: ActionRequest) -> None:
    """Write the action to the admin's log; in the background if the database is unavailable."""
    logger.warning("pool %r: %s, by user %r", action.name, action.log_text, viewer.name)
    if viewer.by_cookie:
        WORKERS.run(lambda: _log_in_background(viewer, action))
    else:
        _log(viewer, action)


def _log_in_background(viewer: Viewer, action: ActionRequest) -> None:
    try:
        _log(viewer, action)
    except Exception as error:
        kind = type(error).__name__
        logger.warning("pool %r: the admin's log could not be written: %s", action.name, kind)
    finally:
        connections.close_all()


def _log(viewer: Viewer, action: ActionRequest) -> None:
    LogEntry.objects.create(
        user_id=viewer.user_id,
        content_type=ContentType.objects.get_for_model(ConnectionPool),
        object_id=action.pool,
        object_repr=action.name[:200],
        action_flag=CHANGE,
        change_message=action.log_text,
    )
