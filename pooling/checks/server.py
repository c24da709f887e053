"""Checks that ask the PostgreSQL server: only with `manage.py check --database`, and `migrate`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from django.core import checks

from pooling import deployment, servers
from pooling.checks.options import pooled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.apps import AppConfig


def check_servers(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001 - the signature of a system check
    databases: Sequence[str] | None = None,
    **kwargs: Any,  # noqa: ARG001
) -> list[checks.CheckMessage]:
    """Hold the pools against what the server has room for, and look for PgBouncer.

    Every server is asked over one connection of its own, past the pool: a pool would go on trying
    if the server is down.
    """
    found: list[checks.CheckMessage] = []
    aliases: dict[tuple[str, str], list[str]] = defaultdict(list)
    seen: dict[str, servers.Server] = {}
    sizes = {alias: config.max_size for alias, _, config in pooled()}
    for alias, entry, _ in pooled():
        if alias not in (databases or ()) or "postgresql" not in str(entry["ENGINE"]):
            continue
        try:
            server = seen[alias] = servers.ask(alias)
        except Exception as error:
            found.append(
                checks.Info(
                    f"DATABASES[{alias!r}]: the server could not be asked: {_said(error)}",
                    hint="The checks that need the server were left out.",
                    id="pooling.I001",
                )
            )
            continue
        if server.pooler is None:
            aliases[(str(entry.get("HOST")), str(entry.get("PORT")))].append(alias)
        else:
            found += _pooler(alias, entry, server)
    for group in aliases.values():
        found += _room(group, sizes, seen[group[0]])
    return found


def _pooler(
    alias: str, entry: Mapping[str, Any], server: servers.Server
) -> list[checks.CheckMessage]:
    if entry.get("DISABLE_SERVER_SIDE_CURSORS"):
        return []
    hint = (
        "Set DISABLE_SERVER_SIDE_CURSORS = True: the server-side cursors of QuerySet.iterator() "
        "belong to a session, and would be looked for in another one."
    )
    if server.pooler in ("transaction", "statement"):
        return [
            checks.Warning(
                f"DATABASES[{alias!r}]: PgBouncer is in {server.pooler} mode, and "
                "DISABLE_SERVER_SIDE_CURSORS is not set",
                hint=hint,
                id="pooling.W007",
            )
        ]
    if server.pooler == "unknown":
        return [
            checks.Warning(
                f"DATABASES[{alias!r}]: there is a PgBouncer or another proxy before the server; "
                "whether it is in transaction mode it does not tell this user",
                hint=f"If it is: {hint[0].lower()}{hint[1:]} If it is not, silence this.",
                id="pooling.W008",
            )
        ]
    return []


def _room(
    group: Sequence[str], sizes: Mapping[str, int], server: servers.Server
) -> list[checks.CheckMessage]:
    processes = deployment.processes()
    number = 1 if processes is None else processes.number
    together = sum(sizes[alias] for alias in group)
    wanted = number * together
    if wanted <= server.room:
        return []
    origin = "at least" if processes is None else f"as {processes.source} says:"
    return [
        checks.Warning(
            f"DATABASES: {' + '.join(repr(alias) for alias in group)} may open {wanted} "
            f"connections ({origin} {number} process{'es' * (number != 1)} x "
            f"max_size={together}), but the server has room for {server.room} "
            f"(max_connections={server.max_connections}, of which {server.reserved} reserved)",
            hint=(
                "Lower max_size, use fewer processes, raise max_connections, or put PgBouncer "
                "before the server. `manage.py poolsize` shows the arithmetic."
            ),
            id="pooling.W006",
        )
    ]


def _said(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
