"""Pool options of Django's settings: from `DATABASES[alias]` to a `PoolConfig`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from pooling.core.config import OPTIONS, RESETS, PoolConfig
from pooling.core.errors import PoolConfigError

SYNONYMS = {"max_lifetime": "recycle"}
"""Names of other pools for our options: Django's native pool says `max_lifetime`."""


def pool_config(
    settings_dict: Mapping[str, Any], alias: str, defaults: Mapping[str, Any] | None = None
) -> PoolConfig | None:
    """Return the pool options of one entry of `DATABASES`, or None where pooling is turned off.

    `OPTIONS["pool"]` is a mapping; `True` or nothing means the defaults, `False` no pool.

    Args:
        defaults: those of the engine, where they are not the general ones.

    Raises:
        ImproperlyConfigured: naming every problem, each with its path in the settings.
    """
    config, problems = read_pool_config(settings_dict, alias, defaults)
    del settings_dict  # a report of the exception shows this frame's variables: the password
    if problems:
        raise ImproperlyConfigured("\n".join(problems))
    return config


def read_pool_config(
    settings_dict: Mapping[str, Any], alias: str, defaults: Mapping[str, Any] | None = None
) -> tuple[PoolConfig | None, list[str]]:
    """Return what `pool_config` returns, with the problems as texts instead of an exception."""
    database = f"DATABASES[{alias!r}]"
    path = f"{database}['OPTIONS']['pool']"
    given = (settings_dict.get("OPTIONS") or {}).get("pool", True)
    if given is False:
        return None, []
    problems = []
    if settings_dict.get("CONN_MAX_AGE", 0) != 0:
        problems.append(persistent(database, settings_dict["CONN_MAX_AGE"]))
    if given is True:
        given = {}
    if not isinstance(given, Mapping):
        problems.append(
            f"{path}: must be a mapping of options, True for the defaults or False for no pool, "
            f"not {_shown(given)}"
        )
        return None, problems
    options, unknown = _renamed(given)
    problems += [f"{path}: {problem}" for problem in unknown]
    if options.get("scope") == "transaction" or options.get("budget") is not None:
        options.setdefault("reset", "session")
    config = None
    try:
        config = PoolConfig(**{"name": alias, **(defaults or {}), **options})
    except PoolConfigError as error:
        problems += [f"{path}[{option!r}]: {problem}" for option, problem in error.problems]
    else:
        functions = {
            "reset": None if config.reset in RESETS else config.reset,
            "connect_params": config.connect_params,
        }
        problems += [
            f"{path}[{option!r}]: {problem}"
            for option, function in functions.items()
            if function is not None
            for problem in _unusable(function)
        ]
    return config, problems


def _shown(given: object) -> str:
    """Show a wrong value, or its type if there may be a secret in it: a URL with a password."""
    if given is None or isinstance(given, (int, float)):
        return repr(given)
    return f"the {type(given).__name__} that it is"


def persistent(database: str, max_age: object) -> str:
    """Say why `CONN_MAX_AGE` and a pool exclude each other."""
    return (
        f"{database}: CONN_MAX_AGE={max_age!r} would pin one connection to each thread, so that "
        "the pool never gets it back; remove CONN_MAX_AGE (the pool keeps connections open by "
        "itself) or turn the pool off with OPTIONS['pool'] = False"
    )


def _renamed(given: Mapping[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """Sort out known options, with synonyms resolved, from unknown ones."""
    options: dict[str, Any] = {}
    problems: list[str] = []
    for key, value in given.items():
        option = SYNONYMS.get(key, key)
        if option not in OPTIONS:
            problems.append(f"unknown option {key!r}; {_suggestion(key)}")
        elif option in options:
            names = [name for name in given if SYNONYMS.get(name, name) == option]
            problems.append(f"{' and '.join(map(repr, names))} mean the same; give one of them")
        else:
            options[option] = value
    return options, problems


def _suggestion(key: object) -> str:
    close = difflib.get_close_matches(str(key), [*OPTIONS, *SYNONYMS], n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"the options are {', '.join(OPTIONS)}"


def _unusable(function: str) -> list[str]:
    try:
        found = import_string(function)
    except ImportError as error:
        return [f"cannot import {function!r}: {error}"]
    return [] if callable(found) else [f"{function!r} is not a function"]
