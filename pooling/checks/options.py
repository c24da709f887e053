"""Checks of `DATABASES` and `POOLING` that read the settings only."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core import checks
from django.db import connections
from django.db.utils import load_backend

from pooling.backends.driver import no_budget
from pooling.conf import SYNONYMS, persistent, read_pool_config
from pooling.fleet.cache_store import FleetError, load_cache
from pooling.fleet.options import FleetOptions
from pooling.metrics import access

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from django.apps import AppConfig

    from pooling.backends.driver import DatabaseDriver
    from pooling.core.config import PoolConfig

ENGINES = "pooling.backends."

SETTING = (
    *(field.name for field in dataclasses.fields(FleetOptions)),
    "activity",
    "metrics_token",
    "metrics_networks",
    "replicas",
    "max_replica_lag",
    "stick_seconds",
    "processes",
    "threads",
)
"""The keys of `settings.POOLING`."""


def pooled() -> Iterator[tuple[str, Mapping[str, Any], PoolConfig]]:
    """Yield the entries of `DATABASES` that have a pool with valid options."""
    for alias, entry in _entries():
        config, problems = read_pool_config({**entry, "CONN_MAX_AGE": 0}, alias)
        if config is not None and not problems:
            yield alias, entry, config


def check_pools(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001 - the signature of a system check
    **kwargs: Any,  # noqa: ARG001
) -> list[checks.CheckMessage]:
    """Find invalid and ineffective pool options in `DATABASES`."""
    found: list[checks.CheckMessage] = []
    for alias, entry in _entries():
        # CONN_MAX_AGE is reported separately, as E002.
        config, problems = read_pool_config({**entry, "CONN_MAX_AGE": 0}, alias)
        if config is None and not problems:
            continue  # OPTIONS["pool"] is False
        hint = "See the option table in pooling's README."
        found += [checks.Error(problem, hint=hint, id="pooling.E001") for problem in problems]
        found += _persistent(alias, entry)
        found += _health_checks(alias, entry)
        if config is not None:
            found += _ineffective_options(alias, _given(entry), config)
            found += _in_memory(alias, entry)
            found += _replay(alias, entry, config)
            found += _atomic_requests(alias, entry, config)
            found += _budget(alias, entry, config)
    return found + _shared_single_connection()


def check_setting(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001
    **kwargs: Any,  # noqa: ARG001
) -> list[checks.CheckMessage]:
    """Find mistakes in the setting `POOLING`."""
    given = getattr(settings, "POOLING", {})
    if not isinstance(given, Mapping):
        problems = [f"POOLING: must be a mapping of options, not {type(given).__name__}"]
    else:
        problems = [
            f"POOLING: unknown option {key!r}; {_suggestion(key)}"
            for key in given
            if key not in SETTING
        ]
        problems += [
            f"POOLING[{key!r}]: must be a whole number from 1, not {given[key]!r}"
            for key in ("processes", "threads")
            if given.get(key) is not None and not _counts(given[key])
        ]
        problems += _fleet_problems(given)
        problems += access.problems(given)
        problems += replica_problems(given, [alias for alias, _, _ in pooled()])
    hint = "See pooling's documentation, docs/checks.md, for the options of POOLING."
    return [checks.Error(problem, hint=hint, id="pooling.E003") for problem in problems]


def replica_problems(options: Mapping[str, Any], pooled: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with these options of `settings.POOLING`.

    Args:
        options: the setting.
        pooled: the aliases of `DATABASES` that have a pool.
    """
    for option, above in (("max_replica_lag", True), ("stick_seconds", False)):
        value = options.get(option, 1)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= 86_400 or (above and not value):
            wanted = "above" if above else "from"
            yield f"POOLING[{option!r}]: must be a number of seconds {wanted} 0, not {value!r}"
    replicas = options.get("replicas", {})
    if not isinstance(replicas, Mapping) or not all(
        isinstance(each, (list, tuple)) for each in replicas.values()
    ):
        yield "POOLING['replicas']: must map the alias of a primary to a list of aliases"
        return
    known = set(pooled)
    members = [*replicas, *(alias for each in replicas.values() for alias in each)]
    for alias in dict.fromkeys(members):
        if alias not in known:
            yield f"POOLING['replicas']: DATABASES has no {alias!r} with a pool"
        if members.count(alias) > 1:
            yield f"POOLING['replicas']: {alias!r} is there more than once"


def _fleet_problems(given: Mapping[str, Any]) -> Iterator[str]:
    every = given.get("publish_every", 1.0)
    number = isinstance(every, (int, float)) and not isinstance(every, bool)
    if every is not None and not (number and 0 < every <= 3600):
        yield (
            "POOLING['publish_every']: must be a number of seconds above 0, at most 3600, or None "
            f"to publish nothing, not {every!r}"
        )
    cache = given.get("cache", "default")
    if cache != "default" and cache not in settings.CACHES:
        yield f"POOLING['cache']: there is no CACHES[{cache!r}]"
    elif every is not None:
        try:
            load_cache(cache)
        except FleetError as error:
            yield f"POOLING['cache']: {error}"
    prefix = given.get("prefix", "")
    # Memcached takes no other keys, of at most 250 characters with what is added.
    if not (isinstance(prefix, str) and re.fullmatch(r"[!-~]{0,100}", prefix)):
        yield (
            "POOLING['prefix']: must be a string of at most 100 ASCII characters without spaces, "
            f"not {prefix!r}"
        )
    if not isinstance(given.get("activity", True), bool):
        yield f"POOLING['activity']: must be True or False, not {given['activity']!r}"


def _entries() -> list[tuple[str, dict[str, Any]]]:
    return [
        (alias, entry)
        for alias, entry in dict[str, Any](settings.DATABASES).items()
        if str(entry.get("ENGINE", "")).startswith(ENGINES)
    ]


def _given(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the settings contain, with synonyms resolved."""
    given = (entry.get("OPTIONS") or {}).get("pool")
    if not isinstance(given, Mapping):
        return {}
    return {SYNONYMS.get(str(key), str(key)): value for key, value in given.items()}


def _persistent(alias: str, entry: Mapping[str, Any]) -> list[checks.CheckMessage]:
    max_age = entry.get("CONN_MAX_AGE", 0)
    if max_age == 0:
        return []
    return [
        checks.Error(
            persistent(f"DATABASES[{alias!r}]", max_age),
            hint="Use the option recycle to limit the age of connections.",
            id="pooling.E002",
        )
    ]


def _health_checks(alias: str, entry: Mapping[str, Any]) -> list[checks.CheckMessage]:
    if not entry.get("CONN_HEALTH_CHECKS"):
        return []
    return [
        checks.Warning(
            f"DATABASES[{alias!r}]: CONN_HEALTH_CHECKS has no effect with a pool",
            hint=(
                "Remove it. The pool checks each connection's socket before every use, and sends a "
                "test query after ping_after idle seconds (ping_after=0: before every use)."
            ),
            id="pooling.W001",
        )
    ]


def _ineffective_options(
    alias: str, given: Mapping[str, Any], config: PoolConfig
) -> list[checks.CheckMessage]:
    return [
        checks.Warning(
            f"DATABASES[{alias!r}]['OPTIONS']['pool']: {problem}", hint=hint, id="pooling.W002"
        )
        for problem, hint in _without_effect(given, config)
    ]


def _without_effect(given: Mapping[str, Any], config: PoolConfig) -> Iterator[tuple[str, str]]:
    """Yield given options that have no effect in combination with others. Defaults are ignored."""
    if "max_idle" in given and config.max_idle is not None:
        if config.recycle is not None and config.max_idle >= config.recycle:
            yield (
                (
                    f"max_idle={config.max_idle:g} has no effect: connections are replaced sooner, "
                    f"at the age of recycle={config.recycle:g}"
                ),
                "Remove max_idle, or make it smaller than recycle.",
            )
        if config.min_size == config.max_size:
            yield (
                (
                    f"max_idle={config.max_idle:g} has no effect: no idle connection is above "
                    f"min_size={config.min_size}, which is max_size"
                ),
                "Remove max_idle, or make min_size smaller.",
            )
    if "ping_after" in given and config.ping_after:
        ends = [
            (name, value)
            for name, value in (
                ("recycle", config.recycle),
                ("max_idle", config.max_idle if config.min_size == 0 else None),
            )
            if value is not None and config.ping_after >= value
        ]
        for name, value in ends[:1]:
            yield (
                (
                    f"ping_after={config.ping_after:g} has no effect: no connection is idle for so "
                    f"long with {name}={value:g}"
                ),
                f"Make ping_after smaller than {name}, or set ping_after=None if that is intended.",
            )


def _replay(alias: str, entry: Mapping[str, Any], config: PoolConfig) -> list[checks.CheckMessage]:
    if not config.replay_reads:
        return []
    if not str(entry["ENGINE"]).endswith(("postgresql", "postgis")):
        reason = "only sessions of PostgreSQL are followed"
    elif entry.get("ATOMIC_REQUESTS") or not entry.get("AUTOCOMMIT", True):
        reason = "with ATOMIC_REQUESTS, or without AUTOCOMMIT, reads are in transactions"
    else:
        return []
    return [
        checks.Warning(
            f"DATABASES[{alias!r}]['OPTIONS']['pool']: replay_reads has no effect: {reason}",
            hint="Remove replay_reads, or what keeps it from having an effect.",
            id="pooling.W002",
        )
    ]


def _budget(alias: str, entry: Mapping[str, Any], config: PoolConfig) -> list[checks.CheckMessage]:
    if config.budget is None:
        return []
    driver_class: type[DatabaseDriver] = load_backend(entry["ENGINE"]).DatabaseWrapper.driver_class
    reason = driver_class.no_budget
    if reason is None:
        return []
    hint = "A budget needs PostgreSQL."
    return [checks.Error(no_budget(alias, reason), hint=hint, id="pooling.E001")]


def _atomic_requests(
    alias: str, entry: Mapping[str, Any], config: PoolConfig
) -> list[checks.CheckMessage]:
    if config.scope == "request" or not entry.get("ATOMIC_REQUESTS"):
        return []
    return [
        checks.Warning(
            f"DATABASES[{alias!r}]: with ATOMIC_REQUESTS each request is one transaction, so that "
            "scope='transaction' holds its connection as long as scope='request' would",
            hint="Use transaction.atomic() where it is needed, or leave one of the two out.",
            id="pooling.W009",
        )
    ]


def _in_memory(alias: str, entry: Mapping[str, Any]) -> list[checks.CheckMessage]:
    name = str(entry.get("NAME") or "")
    if "sqlite3" not in str(entry["ENGINE"]) or name.startswith("file:memorydb_"):
        return []  # memorydb_: Django's test database of any SQLite database
    if not (name in ("", ":memory:") or name.startswith("file::memory:") or "mode=memory" in name):
        return []
    return [
        checks.Warning(
            f"DATABASES[{alias!r}]: a SQLite database in memory is not pooled: every connection "
            "would open another, empty database",
            hint=(
                "Use a file, or set OPTIONS['pool'] = False, or use the engine "
                "django.db.backends.sqlite3."
            ),
            id="pooling.W004",
        )
    ]


def _shared_single_connection() -> list[checks.CheckMessage]:
    """Find pools of one connection that several aliases share."""
    users: dict[int, list[str]] = defaultdict(list)
    for alias, entry, config in pooled():
        if config.max_size == 1 and entry.get("CONN_MAX_AGE", 0) == 0:
            pool = _pool_of(alias)
            if pool is not None:
                users[id(pool)].append(alias)
    return [
        checks.Warning(
            f"DATABASES: {_listed(aliases)} are the same database and share a pool of "
            "max_size=1: a thread that uses both at once deadlocks until `timeout`",
            hint=(
                "Raise max_size, or give one of them a name in OPTIONS['pool'], other than its "
                "alias, so that each has a pool."
            ),
            id="pooling.W003",
        )
        for aliases in users.values()
        if len(aliases) > 1
    ]


def _pool_of(alias: str) -> Any:
    try:
        return connections[alias].resolve_pool()  # type: ignore[attr-defined]
    except Exception:  # other checks report invalid settings
        return None


def _listed(aliases: Sequence[str]) -> str:
    return f"{', '.join(map(repr, aliases[:-1]))} and {aliases[-1]!r}"


def _suggestion(key: object) -> str:
    close = difflib.get_close_matches(str(key), SETTING, n=1)
    return f"did you mean {close[0]!r}?" if close else f"the options are {', '.join(SETTING)}"


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
