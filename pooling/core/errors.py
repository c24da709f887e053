"""The exceptions of a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pooling.core.budget import BudgetUse


class PoolError(Exception):
    """Base of every error that a pool raises itself.

    Errors of the database driver, a refused password for instance, are not wrapped: they reach the
    caller of `acquire` as the driver raised them.
    """


class PoolTimeout(PoolError):
    """No connection became free, or could be opened, within the time the caller gave."""


class TooManyWaiters(PoolError):
    """`max_waiting` callers are queueing already, so this one was turned away at once."""


class ServerDown(PoolError):
    """The server has been down for `fail_fast` seconds, so this caller was not made to wait."""


class BudgetExhausted(PoolError):
    """The budget of all processes together allows no other connection.

    Drivers raise it from `connect`. Callers go on waiting, and see it as the cause of their
    `PoolTimeout`.

    Attributes:
        use: how the budget is used.
        pause: seconds until another attempt makes sense.
    """

    def __init__(self, message: str, use: BudgetUse | None = None, pause: float = 0.0) -> None:
        super().__init__(message)
        self.use = use
        self.pause = pause


class PoolClosed(PoolError):
    """The pool was closed for good, before or while the caller asked it for a connection."""


class LeaseError(PoolError):
    """A lease was used after its end, or released to another pool."""


class PoolConfigError(PoolError, ValueError):
    """Some options cannot be used.

    Attributes:
        problems: every problem found, as (option, problem).
    """

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{option}: {problem}" for option, problem in problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return PoolConfigError, (self.problems,)


_joined: dict[tuple[type[PoolError], type[Exception]], type[PoolError]] = {}


def as_driver_error(pool_error: type[PoolError], driver_error: type[Exception]) -> type[PoolError]:
    """Return a class that is both a pool's error and the driver's.

    Django translates only subclasses of the driver's own PEP 249 classes into `django.db` errors;
    with this, `except django.db.OperationalError` catches a pool's time-out too.
    """
    if issubclass(pool_error, driver_error):
        return pool_error
    key = (pool_error, driver_error)
    if key not in _joined:
        # Two threads may get here at once; setdefault lets both use the class of one of them.
        _joined.setdefault(key, _join(pool_error, driver_error))
    return _joined[key]


def _join(pool_error: type[PoolError], driver_error: type[Exception]) -> type[PoolError]:
    def reduce(error: PoolError) -> tuple[Any, ...]:
        # The joined class has no importable name: over a pickle it becomes its pool half again.
        return pool_error, error.args

    members = {
        "__doc__": pool_error.__doc__,
        "__module__": pool_error.__module__,
        "__reduce__": reduce,
    }
    return type(pool_error.__name__, (pool_error, driver_error), members)
