"""Checks that connect to the databases: run by `manage.py check --database` and `migrate`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from django.core import checks
from django.db import connections

from pooling import deployment, fleet, server_limits
from pooling.backends.driver import driver_of
from pooling.checks.mysql import check_wait_timeout
from pooling.checks.options import pooled
from pooling.fleet.server_sessions import VENDORS
from pooling.fleet.snapshots import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from django.apps import AppConfig

    from pooling.core.config import PoolConfig


def check_servers(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001 - the signature of a system check
    databases: Sequence[str] | None = None,
    **kwargs: Any,  # noqa: ARG001
) -> list[checks.CheckMessage]:
    """Compare the pools with the server's connection limit, and detect PgBouncer.

    Each server is queried over one connection outside the pool, which would retry if the server is
    down.
    """
    found: list[checks.CheckMessage] = []
    servers: dict[tuple[str, ...], list[str]] = defaultdict(list)
    users: dict[tuple[str, ...], list[str]] = defaultdict(list)
    seen: dict[str, server_limits.Server] = {}
    configs = {alias: config for alias, _, config in pooled()}
    for alias, entry, config in pooled():
        if alias not in (databases or ()):
            continue
        try:
            vendor = connections[alias].vendor
            if vendor not in VENDORS:
                _try_sqlite_options(alias)
                continue
            server = seen[alias] = server_limits.query_server(alias)
        except Exception as error:
            found.append(_connect_failure(alias, entry, error))
            continue
        if server.wait_timeout is not None:
            found += check_wait_timeout(alias, config, server.wait_timeout)
        if server.pooler is not None:
            found += _pooler(alias, entry, server)
            found += _budget(alias, config, server)
            found += _pooler_modes(alias, entry, config, server)
            continue
        address = (vendor, str(entry.get("HOST")), str(entry.get("PORT")))
        servers[address].append(alias)
        if server.max_user_connections is not None:
            users[(*address, str(entry.get("USER")))].append(alias)
    for group in servers.values():
        server = seen[group[0]]
        limit = f"max_connections={server.max_connections}, of which {server.reserved} reserved"
        found += _room([configs[alias] for alias in group], group, server.room, limit)
    for group in users.values():
        room = seen[group[0]].max_user_connections or 0
        found += _room(
            [configs[alias] for alias in group], group, room, f"max_user_connections={room}"
        )
    return found


def _pooler(
    alias: str, entry: Mapping[str, Any], server: server_limits.Server
) -> list[checks.CheckMessage]:
    if entry.get("DISABLE_SERVER_SIDE_CURSORS"):
        return []
    hint = (
        "Set DISABLE_SERVER_SIDE_CURSORS = True: the server-side cursors of QuerySet.iterator() "
        "belong to a session, and later fetches would reach another one."
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
                f"DATABASES[{alias!r}]: there is a PgBouncer or another proxy in front of the "
                "server; its pool mode cannot be read with this user",
                hint=f"In transaction mode: {hint[0].lower()}{hint[1:]} Otherwise silence this.",
                id="pooling.W008",
            )
        ]
    return []


def _budget(
    alias: str, config: PoolConfig, server: server_limits.Server
) -> list[checks.CheckMessage]:
    if config.budget is None or server.pooler == "session":
        return []
    return [
        checks.Error(
            f"DATABASES[{alias!r}]['OPTIONS']['pool']['budget']: there is a PgBouncer or another "
            f"proxy in front of the server (pool mode: {server.pooler}); a budget counts sessions "
            "by their locks, and there they are not the pool's",
            hint="Leave budget out: the proxy limits the connections. Or connect to the server.",
            id="pooling.E005",
        )
    ]


def _pooler_modes(
    alias: str, entry: Mapping[str, Any], config: PoolConfig, server: server_limits.Server
) -> Iterator[checks.CheckMessage]:
    """Report what PgBouncer's pool mode makes fail, or wait."""
    name = f"DATABASES[{alias!r}]"
    if server.pooler == "statement":
        yield checks.Warning(
            f"{name}: PgBouncer is in statement mode, which refuses transactions",
            hint=(
                "Set pool_mode = transaction for this database: atomic(), migrations and tests "
                "need transactions."
            ),
            id="pooling.W011",
        )
    if server.pooler in ("transaction", "statement") and (
        lost := list(_lost(entry, config, server))
    ):
        yield checks.Warning(
            f"{name}: PgBouncer is in {server.pooler} mode, in which these options "
            f"fail or reach other clients: {', '.join(lost)}",
            hint="Remove them, or set pool_mode = session for this database.",
            id="pooling.W012",
        )
    number, source = _processes([alias])
    size, wanted = server.pooler_size, number * config.max_size
    if config.budget is not None:
        wanted = min(wanted, config.budget + number)
    if server.pooler == "session" and size is not None and wanted > size:
        origin = "at least" if source is None else f"according to {source}:"
        yield checks.Warning(
            f"{name}: the pools may open {wanted} connections ({origin} {number} "
            f"process{'es' * (number != 1)}, max_size={config.max_size}), but PgBouncer is in "
            f"session mode and has {size} for this database",
            hint=(
                "Each connection of a pool, an idle one too, occupies one of PgBouncer's, and the "
                "next one waits for query_wait_timeout. Set pool_mode = transaction, lower "
                "max_size, or raise default_pool_size."
            ),
            id="pooling.W013",
        )


def _lost(
    entry: Mapping[str, Any], config: PoolConfig, server: server_limits.Server
) -> Iterator[str]:
    options = entry.get("OPTIONS", {})
    implied = config.scope == "transaction" or config.budget is not None  # E005
    if config.reset != "rollback" and not implied:
        yield f"reset={config.reset!r}"
    if options.get("assume_role"):
        yield "OPTIONS['assume_role']"
    prepared = options.get("prepare_threshold") is not None and options.get("server_side_binding")
    if prepared and not server.prepares:
        yield "prepared statements (OPTIONS['prepare_threshold'])"


def _processes(group: Sequence[str]) -> tuple[int, str | None]:
    """Return how many processes use these aliases, and how that is known."""
    processes = deployment.processes()
    number, source = (1, None) if processes is None else (processes.number, processes.source)
    seen = sum(
        any(set(group) & set(pool["aliases"]) for pool in process["pools"])
        for process in fleet.processes()
    )
    origin = "the shared cache"
    return (seen, origin) if seen > number else (number, source)


def _room(
    configs: Sequence[PoolConfig], group: Sequence[str], room: int, limit: str
) -> list[checks.CheckMessage]:
    number, source = _processes(group)
    together = sum(config.max_size for config in configs)
    wanted = number * together
    how = f"{number} process{'es' * (number != 1)} x max_size={together}"
    if all(config.budget is not None for config in configs):
        budget = sum(config.budget or 0 for config in configs)
        if budget + number < wanted:
            wanted = budget + number
            how = f"{number} process{'es' * (number != 1)}, one more than budget={budget} each"
    if wanted <= room:
        return []
    origin = "at least" if source is None else f"according to {source}:"
    return [
        checks.Warning(
            f"DATABASES: {' + '.join(repr(alias) for alias in group)} may open {wanted} "
            f"connections ({origin} {how}), but the server has room for {room} ({limit})",
            hint=(
                f"Lower max_size, use fewer processes, raise {limit.partition('=')[0]}, or put a "
                "proxy that pools (PgBouncer, ProxySQL) in front of the server. "
                "`manage.py poolsize` shows the calculation."
            ),
            id="pooling.W006",
        )
    ]


def _try_sqlite_options(alias: str) -> None:
    """Open an in-memory database with the options of an alias, without touching its file."""
    wrapper: Any = connections[alias]
    params = {**wrapper.get_connection_params(), "database": ":memory:"}
    wrapper.Database.connect(**params).close()


def _connect_failure(alias: str, entry: Mapping[str, Any], error: Exception) -> checks.CheckMessage:
    """Report an unreachable server as Info, any other failure as Error."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    text = Redactor(entry)(text)
    if _is_transient(alias, error):
        return checks.Info(
            f"DATABASES[{alias!r}]: the server is unreachable: {text}",
            hint="The checks that need the server were skipped.",
            id="pooling.I001",
        )
    return checks.Error(
        f"DATABASES[{alias!r}]: cannot connect: {text}",
        hint="Correct the entry (user, password, database, OPTIONS), or the server's access rules.",
        id="pooling.E004",
    )


def _is_transient(alias: str, error: Exception) -> bool:
    """Tell whether the pool would retry after this error."""
    try:
        driver = driver_of(connections[alias].resolve_pool())  # type: ignore[attr-defined]
    except Exception:  # the entry is too broken to make a pool
        return False
    return driver is not None and driver.is_transient(error.__cause__ or error)
