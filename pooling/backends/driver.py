"""DatabaseDriver: open, set up and clean physical connections the way Django does it."""

from __future__ import annotations

import abc
from contextlib import nullcontext
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.signals import connection_created
from django.utils.module_loading import import_string

from pooling.backends.connect_params import ConnectParams, without_values
from pooling.backends.identity import HiddenDict
from pooling.core.clock import SYSTEM_CLOCK
from pooling.core.config import RESETS, PoolConfig

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from django.db.backends.base.base import BaseDatabaseWrapper

    from pooling.backends.base import PooledDatabaseWrapper
    from pooling.core.budget import Probe
    from pooling.core.pool import Pool


_NOTHING_TO_HOLD = nullcontext()


class _Login(NamedTuple):
    """What the next connection is opened with.

    It is replaced as a whole: a thread that connects never sees the password of one caller beside
    the credentials of another.
    """

    params: Mapping[str, Any]
    attributes: Mapping[str, Any]
    """What computing them has set on the wrapper."""
    credentials: Mapping[str, Any]


def driver_of(pool: Pool[Any]) -> DatabaseDriver | None:
    """Return the driver of a pool, None if it is not one of a Django database."""
    driver = pool._driver
    return driver if isinstance(driver, DatabaseDriver) else None


def no_budget(alias: str, reason: str) -> str:
    """Say that an engine has no budget."""
    return (
        f"DATABASES[{alias!r}]['OPTIONS']['pool']['budget']: there is none with this engine: "
        f"{reason}; leave it out and limit max_size"
    )


class DatabaseDriver(abc.ABC):
    """Open connections exactly as Django does, by letting Django do it.

    Every physical connection is made by an `opener`: a wrapper of the same class as the user's,
    with a copy of its settings and without a pool, which makes the connection, sets up its session
    as the stock backend would, hands it over and is forgotten. So subclasses that override
    `get_new_connection` or `init_connection_state` are honoured, and nothing refers to the wrapper,
    or the thread, that happened to need a connection first.

    The parameters are those that the caller's wrapper has computed, in the caller's thread and
    context (`update_params`): the opener works in another thread, which may know of no tenant.
    """

    operational_error: type[Exception]
    lease_attributes: ClassVar[tuple[str, ...]] = ()
    """Attributes of the driver's connection object that every release sets back."""
    transaction_attributes: ClassVar[tuple[str, ...]]
    """Attributes of it, or of what belongs to it, that show whether `end_transaction` is needed.
    They are two or more, and the first one is true while a transaction is open."""
    session_attributes: ClassVar[tuple[str, ...]] = ()
    """Those that only `reset="session"` sets back, since that may cost a round trip."""
    baseline_attributes: ClassVar[tuple[str, ...]] = ()
    """Others whose value `baseline` tells, for `end_transaction`."""

    no_budget: ClassVar[str | None] = "its sessions are not counted"
    """Why there is no `budget` with this engine; None if there is."""
    can_replay: ClassVar[bool] = False
    """Whether there are `may_replay` and `has_ended`, for `replay_reads`."""
    disruptions: ClassVar[tuple[str, ...]] = ()
    """Which of `cancel` and `terminate` there are."""
    session_functions: ClassVar[re.Pattern[str]]
    """Functions of SQL that tell of an earlier statement of the same session; the first group is
    the name."""

    def __init__(self, wrapper: PooledDatabaseWrapper, config: PoolConfig) -> None:
        if config.budget is not None and self.no_budget is not None:
            raise ImproperlyConfigured(no_budget(wrapper.alias, self.no_budget))
        self.config = config
        self.alias = wrapper.alias
        self.vendor: str = wrapper.vendor
        self.aliases: set[str] = set()
        """The aliases of `DATABASES` that have used the pool so far."""
        self.receivers_have_run = False
        """Whether receivers of `connection_created` have set up sessions, for `alias`."""
        self._wrapper_class: type[PooledDatabaseWrapper] = _with_plain_settings(
            wrapper.plain_class or type(wrapper)
        )
        self._settings: Mapping[str, Any] = {}
        self._login = _Login({}, {}, {})
        self.operational_error = wrapper.Database.OperationalError
        self._module: str = wrapper.Database.__name__
        self.restores = config.reset in ("session", "always")
        """Whether a release undoes what can be changed in a session."""
        self.only_rolls_back = config.reset == "rollback"
        """Whether a release does no more than end the transaction and set attributes back."""
        self._baselines: dict[Any, dict[str, Any]] = {}
        """For each connection, the attributes that leases begin with."""
        self._opened_at: dict[Any, float] = {}
        self._attributes = attrgetter(*self.lease_attributes, *self.session_attributes)
        self._clean_attributes: dict[Any, object] = {}
        """What `_attributes` returns for each connection as leases begin."""
        self._fingerprint = attrgetter(*self.transaction_attributes, *self.lease_attributes)
        self._clean_fingerprints: dict[Any, object] = {}
        """What `_fingerprint` returns for each connection when it is clean. None before its first
        release, and with connections that are always in a transaction."""
        self._connect_params: ConnectParams | None = None
        if config.connect_params is not None:
            self._connect_params = ConnectParams(
                config.connect_params, config.timeout, self.operational_error
            )
        self._user_reset: Callable[[Any], object] | None = None
        if config.reset not in RESETS:
            self._user_reset = import_string(config.reset)
        self.update_settings(wrapper)

    def update_settings(self, wrapper: PooledDatabaseWrapper) -> None:
        """Take over the settings of `wrapper` for the connections to come.

        They differ from those in use in nothing that a session shows, but the password may have
        been changed, in the settings and on the server.
        """
        self._settings = self.settings_of(wrapper)
        self.add_alias(wrapper.alias)

    def settings_of(self, wrapper: PooledDatabaseWrapper) -> HiddenDict:
        """Return a copy of a wrapper's settings, without a pool."""
        settings = HiddenDict(wrapper.settings_dict)
        settings["OPTIONS"] = HiddenDict({**settings["OPTIONS"], "pool": False})
        return settings

    def update_params(
        self,
        params: Mapping[str, Any],
        credentials: Mapping[str, Any],
        attributes: Mapping[str, Any],
    ) -> None:
        """Take over the parameters for the connections to come, as a caller has computed them.

        They have the same key as those in use, so they may differ in the credentials only, and in
        objects made per call, which stay the same as long as they can.
        """
        login = self._login
        if not login.params or credentials != login.credentials:
            self._login = _Login(HiddenDict(params), attributes, credentials)

    @property
    def credentials(self) -> Mapping[str, Any]:
        """What a caller has to know to get a session, but what does not tell sessions apart."""
        return self._login.credentials

    def add_alias(self, alias: str) -> None:
        """Note that an alias uses the pool."""
        self.aliases.add(alias)  # in place: of two new sets, by two threads, one would be lost

    def may_serve(self, alias: str, credentials: Mapping[str, Any]) -> bool:
        """Tell whether `alias` may use these sessions, which were opened for another alias perhaps.

        Not with other credentials, since it would not have been let in with them. And not when
        there are receivers of `connection_created`: they may set up each alias in its own way.
        """
        return alias == self.alias or (
            not self.receivers_have_run
            and not connection_created.receivers
            and credentials == self.credentials
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        """The entry of `DATABASES` that the next connection follows, secrets included."""
        return self._settings

    def opener(self) -> PooledDatabaseWrapper:
        """Return a wrapper of the user's class without a pool."""
        settings = self._settings
        own = HiddenDict({**settings, "OPTIONS": HiddenDict(settings["OPTIONS"])})
        opener = self._wrapper_class(own, self.alias)
        vars(opener).update(self._login.attributes)
        return opener

    def connection_params(self) -> dict[str, Any]:
        """Return the parameters of the next physical connection, which may be changed."""
        return HiddenDict(self._login.params)

    def connect(self) -> Any:
        """Open a connection and set up its session as the stock backend does."""
        began = SYSTEM_CLOCK.now()
        opener = self.opener()
        plain = params = self.connection_params()
        if self._connect_params is not None:
            params = self._connect_params.get(plain)
        connection = failure = None
        try:
            with self.connecting():
                try:
                    connection = opener.get_new_connection(params)
                except Exception as error:
                    _leave_out_frames(error, self._module)
                    failure = without_values(error, params, plain)
                    if failure is error:
                        raise
                if failure is not None:
                    raise failure  # here, where the other error is not its context
                self._opened_at[connection] = began
                opener.connection = connection
                self.set_up_session(opener)
                opener.connection = None
                self._note_baseline(connection)
                self.on_connect(connection, opener)
            return connection  # here, where an interrupt still closes it
        except BaseException:
            if connection is not None:
                self.close(connection)
            raise

    def know_demand(self, has_demand: Callable[[], bool]) -> None:  # noqa: B027 - for a budget
        """Take a function that tells whether callers wait for a connection."""

    def connecting(self) -> AbstractContextManager[object]:
        """Return a context manager in which a connection is opened and its session set up."""
        return _NOTHING_TO_HOLD

    def on_connect(  # noqa: B027 - not all have to
        self, connection: Any, opener: PooledDatabaseWrapper
    ) -> None:
        """Note what the pool has to know of a new connection. `close` forgets it."""

    def restore_attributes(self, connection: Any, names: tuple[str, ...]) -> None:
        """Set attributes of the driver's object back to what leases begin with."""
        baseline = self._baselines[connection]
        for name in names:
            value = baseline[name]
            if getattr(connection, name) is not value:
                setattr(connection, name, value)

    def baseline(self, connection: Any, name: str) -> Any:
        """Return an attribute of the driver's object as leases begin with it."""
        return self._baselines[connection][name]

    def _note_baseline(self, connection: Any) -> None:
        names = self.lease_attributes + self.session_attributes + self.baseline_attributes
        self._baselines[connection] = {name: getattr(connection, name) for name in names}
        self._clean_attributes[connection] = self._attributes(connection)
        self._clean_fingerprints[connection] = None

    def forget(self, connection: Any) -> None:
        """Forget what was noted of a connection that is about to be closed."""
        self._baselines.pop(connection, None)
        self._opened_at.pop(connection, None)
        self._clean_attributes.pop(connection, None)
        self._clean_fingerprints.pop(connection, None)

    def set_up_session(self, opener: BaseDatabaseWrapper) -> None:
        """Do what Django does with a new connection, except to announce it."""
        opener.set_autocommit(self._settings["AUTOCOMMIT"])
        opener.init_connection_state()
        if not self._settings["AUTOCOMMIT"]:
            opener.connection.commit()  # what was set up is not the first lease's to roll back

    def reset(self, connection: Any) -> None:
        """End the transaction, and undo what the option `reset` says."""
        if self._fingerprint(connection) != self._clean_fingerprints[connection]:
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
        fingerprint = self._fingerprint(connection)
        self._clean_fingerprints[connection] = None if fingerprint[0] else fingerprint

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

    def is_in_transaction(self, connection: Any) -> bool:
        """Tell whether a transaction is open, however it was begun. No round trip."""
        return bool(self._fingerprint(connection)[0])

    def session_change(self, connection: Any) -> str | None:
        """Return what the lease may have left in the session, in a few words; None if nothing.

        Asked between two statements with `scope="transaction"`. No round trip.
        """
        if self._attributes(connection) != self._clean_attributes[connection]:
            return "attribute of the driver's connection"
        return None

    def reads_session(self, sql: str) -> str | None:
        """Return the function by which a statement reads what an earlier one left, if it does."""
        found = self.session_functions.search(sql)
        return None if found is None else found[1]

    def may_replay(self, connection: Any, sql: object, params: object) -> bool:
        """Tell whether a statement, the first one of its lease, may be run on another session."""
        raise NotImplementedError

    def has_ended(self, connection: Any, error: BaseException | None) -> bool:
        """Tell whether a statement has failed because its session ended. No round trip."""
        raise NotImplementedError

    def opened_at(self, connection: Any) -> float:
        """Return when opening a connection began, on the system's clock."""
        return self._opened_at[connection]

    def mark_baseline(self, connection: Any) -> None:
        """Take the session as it is now for what leases begin with: receivers have set it up."""
        self._note_baseline(connection)

    def needs_connection_created(self, connection: Any) -> bool:  # noqa: ARG002
        """Tell whether the session was restored, so that receivers have to set it up again."""
        return False

    def probe(self, connection: Any, *, in_demand: bool) -> Probe:
        """Look whether other processes need this process's connections; see `no_budget`."""
        raise NotImplementedError

    def add_server_cursor(self, connection: Any, cursor: Any) -> None:  # noqa: B027 - most have none
        """Note a server-side cursor that the connection's lease has made."""

    def close_cursors(self, connection: Any, cursors: list[Any]) -> None:  # noqa: ARG002
        """Close the cursors that a lease has left open. May block, and raise."""
        for cursor in cursors:
            cursor.close()

    @abc.abstractmethod
    def is_transient(self, error: BaseException) -> bool:
        """Tell whether a failed connect is worth another try in a moment."""

    def cancel(self, connection: Any) -> None:
        """Ask the server to stop what a leased connection runs. Any thread may call this."""
        raise NotImplementedError

    def terminate(self, connection: Any) -> None:
        """End the session of a leased connection, so that its holder gets an error at its next use.

        Any thread may call this. Nothing of the driver's object is closed: it is the holder's.
        """
        raise NotImplementedError

    def close(self, connection: Any) -> None:
        """Close the connection."""
        self.forget(connection)
        connection.close()


def _with_plain_settings(wrapper_class: type[PooledDatabaseWrapper]) -> Any:
    """Return a class whose objects keep the settings they are given.

    A subclass may make `settings_dict` a property that looks at its caller's context.
    """
    for each in wrapper_class.__mro__:
        if hasattr(vars(each).get("settings_dict"), "__set__"):
            return type(wrapper_class.__name__, (wrapper_class,), {"settings_dict": None})
    return wrapper_class


def _leave_out_frames(error: BaseException, module: str) -> None:
    """Leave the driver's own frames out of a traceback, where they are its end.

    A report of the exception shows their local variables, and the password is among them. What the
    driver has to say is in the message.
    """
    link = last = error.__traceback__
    while link is not None:
        name = link.tb_frame.f_globals.get("__name__", "")
        if name != module and not name.startswith(f"{module}."):
            last = link
        link = link.tb_next
    if last is not None:
        last.tb_next = None
