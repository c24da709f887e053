"""What the drivers of both backends share: how a physical connection comes into being."""

from __future__ import annotations

import abc
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

from django.utils.module_loading import import_string

from pooling.core.config import RESETS, PoolConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.db.backends.base.base import BaseDatabaseWrapper

    from pooling.backends.base import PooledDatabaseWrapper
    from pooling.core.pool import Pool


def driver_of(pool: Pool[Any]) -> DatabaseDriver | None:
    """Return the driver of a pool, None if it is not one of a Django database."""
    driver = pool._driver
    return driver if isinstance(driver, DatabaseDriver) else None


class DatabaseDriver(abc.ABC):
    """Open connections exactly as Django does, by letting Django do it.

    Every physical connection is made by an `opener`: a wrapper of the same class as the user's,
    with a copy of its settings and without a pool, which makes the connection, sets up its session
    as the stock backend would, hands it over and is forgotten. So subclasses that override
    `get_connection_params` (for a token that changes) or `init_connection_state` are honoured, and
    nothing refers to the wrapper, or the thread, that happened to need a connection first.
    """

    operational_error: type[Exception]
    lease_attributes: ClassVar[tuple[str, ...]] = ()
    """Attributes of the driver's connection object that every release sets back."""
    transaction_attributes: ClassVar[tuple[str, ...]]
    """Attributes of it, or of what belongs to it, that show whether `end_transaction` is needed.
    They are two or more, and the first one is true while a transaction is open."""
    session_attributes: ClassVar[tuple[str, ...]] = ()
    """Those that only `reset="session"` sets back, since that may cost a round trip."""

    def __init__(self, wrapper: PooledDatabaseWrapper, config: PoolConfig) -> None:
        self.config = config
        self.alias = wrapper.alias
        self.vendor: str = wrapper.vendor
        self.aliases: set[str] = set()
        """The aliases of `DATABASES` that have used the pool so far."""
        self._wrapper_class = type(wrapper)
        self._settings: Mapping[str, Any] = {}
        self.operational_error = wrapper.Database.OperationalError
        self.restores = config.reset in ("session", "always")
        """Whether a release undoes what can be changed in a session."""
        self._as_opened: dict[str, Any] = {}
        self._fingerprint = attrgetter(*self.transaction_attributes, *self.lease_attributes)
        self._clean_fingerprint: object = None
        """What `_look` finds at a connection that was cleaned. None before the first one was, and
        with connections that are always in a transaction."""
        self._user_reset: Callable[[Any], object] | None = None
        if config.reset not in RESETS:
            self._user_reset = import_string(config.reset)
        self.update_settings(wrapper)

    def update_settings(self, wrapper: PooledDatabaseWrapper) -> None:
        """Take over the settings of `wrapper` for the connections to come.

        They differ from those in use in nothing that a session shows, but the password may have
        been changed, in the settings and on the server.
        """
        settings = {**wrapper.settings_dict}
        settings["OPTIONS"] = {**settings["OPTIONS"], "pool": False}
        self._settings = settings
        self.aliases = self.aliases | {wrapper.alias}

    @property
    def settings(self) -> Mapping[str, Any]:
        """The entry of `DATABASES` that the next connection follows, secrets included."""
        return self._settings

    def opener(self) -> BaseDatabaseWrapper:
        """Return a wrapper of the user's class without a pool."""
        settings = {**self._settings, "OPTIONS": {**self._settings["OPTIONS"]}}
        return self._wrapper_class(settings, self.alias)

    def connection_params(self, opener: BaseDatabaseWrapper) -> dict[str, Any]:
        """Return the parameters of the next physical connection."""
        return opener.get_connection_params()

    def connect(self) -> Any:
        """Open a connection and set up its session as the stock backend does."""
        opener = self.opener()
        connection = opener.get_new_connection(self.connection_params(opener))
        try:
            opener.connection = connection
            self.set_up_session(opener)
            opener.connection = None
            for name in self.lease_attributes + self.session_attributes:
                self._as_opened[name] = getattr(connection, name)
            self.on_connect(connection)
            return connection  # here, where an interrupt still closes it
        except BaseException:
            self.close(connection)
            raise

    def on_connect(self, connection: Any) -> None:  # noqa: B027 - not all have to
        """Note what the pool has to know of a new connection. `close` forgets it."""

    def restore_attributes(self, connection: Any, names: tuple[str, ...]) -> None:
        """Set attributes of the driver's object back to what they were after connecting."""
        for name in names:
            value = self._as_opened[name]
            if getattr(connection, name) is not value:
                setattr(connection, name, value)

    def set_up_session(self, opener: BaseDatabaseWrapper) -> None:
        """Do what Django does with a new connection, except to announce it."""
        opener.set_autocommit(self._settings["AUTOCOMMIT"])
        opener.init_connection_state()
        if not self._settings["AUTOCOMMIT"]:
            opener.connection.commit()  # what was set up is not the first lease's to roll back

    def reset(self, connection: Any) -> None:
        """End the transaction, and undo what the option `reset` says."""
        if self._fingerprint(connection) != self._clean_fingerprint:
            self.clean(connection)
        if self.restores:
            self.restore_session(connection)
        elif self._user_reset is not None:
            self._user_reset(connection)
            self.end_transaction(connection)

    def clean(self, connection: Any) -> None:
        """End the transaction and set attributes back. Most leases leave nothing of the kind."""
        self.restore_attributes(connection, self.lease_attributes)
        self.end_transaction(connection)
        look = self._fingerprint(connection)
        self._clean_fingerprint = None if look[0] else look

    @abc.abstractmethod
    def is_alive(self, connection: Any) -> bool:
        """Tell without a round trip whether an idle connection may be used as it is."""

    @abc.abstractmethod
    def ping(self, connection: Any) -> None:
        """Make one round trip; raise if the connection is of no use."""

    @abc.abstractmethod
    def end_transaction(self, connection: Any) -> None:
        """Roll back what is open; raise if the connection is not free. No round trip if it is."""

    @abc.abstractmethod
    def restore_session(self, connection: Any) -> None:
        """Undo what can be changed in a session. Costs what it costs."""

    def mark_baseline(self, connection: Any) -> None:  # noqa: B027 - most have nothing to do
        """Take the session as it is now for what leases begin with: receivers have set it up."""

    def needs_connection_created(self, connection: Any) -> bool:  # noqa: ARG002
        """Tell whether the session was restored, so that receivers have to set it up again."""
        return False

    def add_server_cursor(self, connection: Any, cursor: Any) -> None:  # noqa: B027 - most have none
        """Note a server-side cursor that the connection's lease has made."""

    def close_cursors(self, connection: Any, cursors: list[Any]) -> None:  # noqa: ARG002
        """Close the cursors that a lease has left open. May block, and raise."""
        for cursor in cursors:
            cursor.close()

    @abc.abstractmethod
    def is_transient(self, error: BaseException) -> bool:
        """Tell whether a failed connect is worth another try in a moment."""

    def close(self, connection: Any) -> None:
        """Close the connection."""
        connection.close()
