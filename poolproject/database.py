"""Database settings from DATABASE_URL and the POOL_ variables."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from poolproject.environment import Environment

POSTGRESQL = "pooling.backends.postgresql"
MYSQL = "pooling.backends.mysql"
SQLITE = "pooling.backends.sqlite3"
ENGINES = {"postgres": POSTGRESQL, "postgresql": POSTGRESQL, "mysql": MYSQL, "sqlite": SQLITE}

# Writers wait at BEGIN instead of failing in mid-transaction; WAL never blocks readers.
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "init_command": (
        "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL"
    ),
}


def database(env: Environment, base_dir: Path) -> dict[str, Any]:
    """Return the entry of `DATABASES`; relative SQLite paths are relative to `base_dir`."""
    config = parse_url(env.secret("DATABASE_URL") or "sqlite:///db.sqlite3")
    options = config.setdefault("OPTIONS", {})
    if config["ENGINE"] == MYSQL and find_spec("MySQLdb") is None and find_spec("pymysql"):
        import_module("pymysql").install_as_MySQLdb()
    if config["ENGINE"] == SQLITE:
        config["OPTIONS"] = options = SQLITE_OPTIONS | options
        if config["NAME"] != ":memory:":
            config["NAME"] = base_dir / config["NAME"]
    if pool := pool_options(env):
        options["pool"] = pool
    return config


def parse_url(url: str) -> dict[str, Any]:
    """Parse a database URL; errors never show it, because it may contain a password."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ImproperlyConfigured(
            "DATABASE_URL must look like postgres://user:password@host:5432/name "
            "or sqlite:///file.sqlite3."
        )
    if scheme not in ENGINES:
        raise ImproperlyConfigured(
            f"DATABASE_URL: no pooled database engine for {scheme!r}; use postgres://, mysql:// or "
            "sqlite://."
        )
    if ENGINES[scheme] == SQLITE and not rest.startswith("/") and rest not in {"", ":memory:"}:
        raise ImproperlyConfigured(
            "DATABASE_URL: an SQLite URL has three slashes before a relative path and four "
            "before an absolute one: sqlite:///file.sqlite3, sqlite:////srv/file.sqlite3."
        )
    try:
        parts = urlsplit(url)
        # An unescaped "/", "?" or "#" in the password ends the host part: the rest, including the
        # "@", would be read as path, query or fragment.
        misread = bool(parts.fragment) or "@" in parts.path + parts.query
        config = None if misread else Environment.db_url_config(url)
    except ValueError:  # the text may quote a part of the password
        config = None
    if config is None:
        raise ImproperlyConfigured(
            "DATABASE_URL cannot be split into user, password, host, port and name. Characters "
            "such as / ? # @ : in the password must be percent-encoded; Python's "
            "urllib.parse.quote(password, safe='') does it."
        )
    if "pool" in config.get("OPTIONS", {}):
        raise ImproperlyConfigured(
            "DATABASE_URL cannot carry the pool's options; use POOL_MIN_SIZE, POOL_MAX_SIZE, "
            "POOL_TIMEOUT, POOL_RECYCLE and POOL_SCOPE."
        )
    return config | {"ENGINE": ENGINES[scheme]}


def pool_options(env: Environment) -> dict[str, int | float | str]:
    """Return the pool options that are set; the others keep pooling's defaults."""
    readers = {
        "min_size": env.whole_number,
        "max_size": env.whole_number,
        "timeout": env.seconds,
        "recycle": env.seconds,
        "scope": env.str,
    }
    return {
        option: read(name)
        for option, read in readers.items()
        if (name := f"POOL_{option.upper()}") in env
    }
