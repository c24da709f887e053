"""PoolLookup: find the pool that a wrapper's settings and its caller lead to."""

from __future__ import annotations

import dataclasses
import types
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar

from django.db.backends.base.base import NO_DB_ALIAS, BaseDatabaseWrapper
from django.utils.functional import LazyObject, Promise

from pooling.backends.connect_params import ConnectParams
from pooling.backends.identity import HiddenDict, PoolKey, is_made_per_call
from pooling.conf import pool_config
from pooling.core.pool import Pool
from pooling.core.threads import DAEMONS
from pooling.registry import REGISTRY
from pooling.signals import SignalListener

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from pooling.backends.driver import DatabaseDriver
    from pooling.core.connection import DiscardReason

_DECIDING_METHODS = (
    *("get_connection_params", "session_identity", "time_zone_identity", "database_identity"),
    *("can_be_pooled", "find_pool", "check_settings"),
)
"""What decides, together with the settings, which pool a wrapper uses and with which parameters."""
_DECIDING_PROPERTIES = ("timezone", "timezone_name")
"""The same, but their values are on every wrapper."""
_LOGIN_SETTINGS = ("NAME", "USER", "PASSWORD", "HOST", "PORT", "TIME_ZONE")
_LOGIN_PARAMS = frozenset({"database", "dbname", "host", "password", "port", "user"})


class Binding:
    """Which pool a wrapper uses, and the settings from which that follows."""

    __slots__ = ("follows_settings", "pool", "settings", "shared_credentials")

    def __init__(self, settings: HiddenDict, pool: Pool[Any] | None) -> None:
        self.settings = settings
        self.pool = pool
        self.follows_settings = False
        """Whether the pool follows from the settings alone, and is this alias's own."""
        self.shared_credentials: Mapping[str, Any] | None = None
        """With which credentials the wrapper uses the pool of another alias, if so."""

    def __repr__(self) -> str:
        return f"<binding to {self.pool!r}>"  # the settings have a password in them


UNBOUND = Binding(HiddenDict(), None)
"""The binding of a wrapper that has not looked for its pool yet."""


class _RegisteringListener(SignalListener):
    """Sends the signals, and tells the registry which pools have connections."""

    def connection_opened(self, pool: Pool[Any]) -> None:
        """Have the registry keep the pool."""
        REGISTRY.keep_alive(pool)
        super().connection_opened(pool)

    def connection_closed(self, pool: Pool[Any], reason: DiscardReason | None) -> None:
        """Have the registry let go of a pool that has given up all it had."""
        super().connection_closed(pool, reason)
        REGISTRY.drop_if_unused(pool, reason)


_REGISTERING_LISTENER = _RegisteringListener()


class PoolLookup(BaseDatabaseWrapper):
    """The part of a pooled wrapper that knows which pool it uses.

    Subclasses may override `get_connection_params`; it is then asked for each lease, in the thread
    of the caller. What else a session depends on (a `get_new_connection` or an
    `init_connection_state` that looks at a context variable) belongs into `session_identity`.
    """

    driver_class: ClassVar[type[DatabaseDriver]]
    pool_defaults: ClassVar[Mapping[str, Any]] = {}
    """Defaults of `OPTIONS["pool"]` that differ from the general ones with this engine."""
    credential_params: ClassVar[tuple[str, ...]] = ("password",)
    """Login parameters that are not part of the pool's key: the password may be changed, or be a
    token that is new for each call, while sessions stay open. All callers of an alias share them;
    where callers differ by their password alone, set this to `()`."""

    params_attributes: Mapping[str, Any] = HiddenDict()
    """Attributes that Django's `get_connection_params` has set on the wrapper, as with SQLite."""

    _binding = UNBOUND

    def resolve_pool(self) -> Pool[Any] | None:
        """Return this wrapper's pool, or None if it works without one. Does not connect.

        The settings are looked at every time, because test runners change them in place.

        Raises:
            ImproperlyConfigured: wrong options, or options that contradict each other.
        """
        binding = self._binding
        if binding.settings != self.settings_dict:
            return self._bind()
        pool = binding.pool
        if not binding.follows_settings:
            credentials = binding.shared_credentials
            if pool is None or credentials is None:
                return self._bind()
            driver: Any = pool._driver
            if not driver.may_serve(self.alias, credentials):
                return self._bind()
        return self._bind() if pool is not None and pool.closed else pool

    def _bind(self) -> Pool[Any] | None:
        """Find the pool, and remember it as far as the settings decide."""
        settings = _snapshot(self.settings_dict)
        pool = self.find_pool()
        binding = Binding(settings, pool)
        if self.pool_follows_settings():
            driver: Any = None if pool is None else pool._driver
            if driver is None or driver.alias == self.alias:
                binding.follows_settings = True
            else:
                binding.shared_credentials = driver.credentials
        self._binding = binding
        return pool

    def pool_follows_settings(self) -> bool:
        """Tell whether equal settings lead to the same pool for every caller, at any time.

        Not if code of another package decides as well, in a subclass or put in the place of a
        method: it may look at a context variable. Nor if a setting is evaluated late.
        """
        own = vars(self)
        return (
            not any(name in own for name in _DECIDING_METHODS)
            and all(map(_is_stock, _definitions(type(self))))
            and not any(map(_is_evaluated_late, self.settings_dict["OPTIONS"].values()))
            and all(_is_plain(self.settings_dict[name]) for name in _LOGIN_SETTINGS)
        )

    def find_pool(self) -> Pool[Any] | None:
        """Return the pool that the present settings lead to, which may have to be made."""
        config = pool_config(self.settings_dict, self.alias, self.pool_defaults)
        if (
            config is None
            or self.alias == NO_DB_ALIAS
            or DAEMONS.exiting  # a finaliser at the very end: each connection by itself, as stock
            or not self.can_be_pooled()
        ):
            return None
        self.check_settings()
        params = _evaluated(self.get_connection_params())
        credentials = HiddenDict({name: params.get(name) for name in self.credential_params})
        # Aliases that differ in nothing but their name share a pool. A chosen name counts.
        identity = dataclasses.replace(config, name="-") if config.name == self.alias else config
        wrapper_class: Any = type(self)
        shared = PoolKey(
            wrapper_class,
            identity,
            self.session_identity(params),
            self.time_zone_identity(),
            self.settings_dict["AUTOCOMMIT"],
        )
        own = shared.extended(self.alias)
        database = self.database_identity(self.settings_dict["NAME"])

        def make() -> Pool[Any]:
            wrapper: Any = self
            driver = self.driver_class(wrapper, config)
            driver.update_params(params, credentials, self.params_attributes)
            pool: Pool[Any] = Pool(driver, config, listener=_REGISTERING_LISTENER)
            driver.know_demand(lambda: bool(pool._state.waiters))
            return pool

        pool = REGISTRY.find(own)
        if pool is None and not any(map(is_made_per_call, params.values())):
            pool = REGISTRY.get(shared, database, self.alias, make)
            driver: Any = pool._driver
            if not driver.may_serve(self.alias, credentials):
                pool = None
        if pool is None:
            pool = REGISTRY.get(own, database, self.alias, make)
        driver = pool._driver
        if driver.alias == self.alias:
            driver.update_settings(self)
            driver.update_params(params, credentials, self.params_attributes)
        else:
            driver.add_alias(self.alias)
        return pool

    def with_supplied_params(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters of a connection without a pool, as `connect_params` changes them.

        Such as the one that creates a test database. A pool's driver does it by itself.
        """
        config = pool_config(self.settings_dict, self.alias, self.pool_defaults)
        if config is None or config.connect_params is None:
            return params
        wrapper: Any = self
        error_class = wrapper.Database.OperationalError
        return ConnectParams(config.connect_params, config.timeout, error_class).get(params)

    def can_be_pooled(self) -> bool:
        """Tell whether a second connection would reach the same database as the first."""
        return True

    def session_identity(self, params: dict[str, Any]) -> Hashable:
        """Return the part of the pool's key that identifies a session.

        Args:
            params: the effective connection parameters.
        """
        raise NotImplementedError

    def time_zone_identity(self) -> Hashable:
        """Return what Django derives from its time zone settings for a session."""
        return None

    def database_identity(self, name: Any) -> str:
        """Return the registry's name for the database `name`."""
        return str(name)

    def get_connection_params(self) -> dict[str, Any]:
        """Return the driver's parameters, without our own option."""
        return self.stock_connection_params()

    def stock_connection_params(self) -> dict[str, Any]:
        """Return Django's parameters, whatever subclasses make of them.

        Django's method works on a stand-in with other settings: another thread, or a signal
        handler, may look at those of this wrapper meanwhile.
        """
        options = HiddenDict(self.settings_dict["OPTIONS"])
        options.pop("pool", None)
        stand_in = object.__new__(type(self))
        vars(stand_in).update(vars(self))
        stand_in.settings_dict = HiddenDict({**self.settings_dict, "OPTIONS": options})
        before = {**vars(stand_in)}
        params: dict[str, Any] = super(PoolLookup, stand_in).get_connection_params()
        self.params_attributes = HiddenDict(
            {
                name: value
                for name, value in vars(stand_in).items()
                if name not in before or before[name] is not value
            }
        )
        vars(self).update(self.params_attributes)
        return params


def _snapshot(settings_dict: dict[str, Any]) -> HiddenDict:
    """Copy settings as deep as people change them in place."""
    options = HiddenDict(settings_dict["OPTIONS"])
    if isinstance(options.get("pool"), dict):
        options["pool"] = {**options["pool"]}
    return HiddenDict({**settings_dict, "OPTIONS": options})


def _definitions(wrapper_class: type) -> list[object]:
    """Return what each class of a wrapper's bases defines of `_DECIDING_METHODS`."""
    names = (*_DECIDING_METHODS, *_DECIDING_PROPERTIES)
    members = [vars(each) for each in wrapper_class.__mro__]
    return [each[name] for each in members for name in names if name in each]


def _is_stock(definition: Any) -> bool:
    """Tell whether a function or property is Django's or ours, and not put in its place."""
    function = getattr(definition, "fget", None) or getattr(definition, "func", definition)
    if not isinstance(function, types.FunctionType):
        return False
    # Where it was written: `functools.wraps` copies the name of the module.
    return function.__globals__["__name__"].partition(".")[0] in ("django", "pooling")


def _is_plain(value: object) -> bool:
    """Tell whether a setting for the login is what it shows, for every caller."""
    return value is None or type(value) in (str, int) or isinstance(value, PurePath)


def _is_evaluated_late(value: object) -> bool:
    # The class, since `isinstance` is told the class of what a LazyObject stands for.
    return issubclass(type(value), (Promise, LazyObject))


def _evaluated(params: Mapping[str, Any]) -> HiddenDict:
    """Return parameters without lazy values: a worker that connects has another context.

    Drivers turn those for the login into text, so an object made by a user counts as its text.
    """
    evaluated = HiddenDict(params)
    for name, value in params.items():
        if _is_evaluated_late(value) or (name in _LOGIN_PARAMS and not _is_plain(value)):
            evaluated[name] = value if isinstance(value, bytes) else str(value)
    return evaluated
