"""Parameters that a function supplies for each physical connection: tokens, leases of Vault."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.utils.module_loading import import_string

from pooling.backends.identity import HiddenDict
from pooling.core import forks
from pooling.core.worker_threads import WORKERS
from pooling.formatting import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_CALL = 10.0
"""Seconds that a call may take, at most: as a connect that gets no answer."""

LONGEST_TEXT = 200
"""Characters of an error's text that are quoted."""

IDENTIFYING = frozenset(
    {*("database", "db", "dbname", "host", "hostaddr", "port", "service", "unix_socket")}
)
"""Parameters that tell which database it is: the sessions of a pool all reach the same one."""


class ConnectParams:
    """Asks a function for parameters, in bounded time and in one call at a time.

    Args:
        path: the dotted path of the function. It gets the parameters of the connection, the
            password included, and returns those to use in their place.
        timeout: seconds that a call may take.
        error_class: what is raised when there is no answer: the driver's `OperationalError`.
    """

    def __init__(self, path: str, timeout: float | None, error_class: type[Exception]) -> None:
        self._path = path
        self._timeout = LONGEST_CALL if timeout is None else min(timeout, LONGEST_CALL)
        self._error_class = error_class
        self._function: Callable[[Mapping[str, Any]], Mapping[str, Any]] = import_string(path)
        self._reset()
        forks.register(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._call = _Call()
        self._call.done.set()

    def after_fork_in_child(self) -> None:
        """Forget a call of the parent, whose thread does not exist here."""
        self._reset()

    def get(self, params: Mapping[str, Any]) -> HiddenDict:
        """Return `params` with those that the function supplies. Blocks for `timeout` at most.

        A call that hangs goes on in its thread: who asks meanwhile waits for its answer, so that
        there is never more than one.

        Raises:
            Exception: of the error class. Worth a retry unless the answer is of no use.
        """
        with self._lock:
            call, is_new = self._call, self._call.done.is_set()
            if is_new:
                call = self._call = _Call()
        if is_new:
            copied = HiddenDict(params)
            WORKERS.run(lambda: call.make(self._function, copied))
        if not call.done.wait(self._timeout):
            raise self._error(f"has not returned within {self._timeout:g} s", transient=True)
        if call.error is not None:
            raise self._error(f"failed with {call.error}", transient=True)
        return HiddenDict({**params, **self._checked(call.answer)})

    def _checked(self, answer: object) -> Mapping[str, Any]:
        if not isinstance(answer, Mapping):
            raise self._error(f"returned a {type(answer).__name__}, and no mapping of parameters")
        if wrong := sorted(IDENTIFYING & answer.keys()):
            names = ", ".join(wrong)
            raise self._error(
                f"returned {names}, which would lead to another database; set that in DATABASES"
            )
        return HiddenDict(answer)

    def _error(self, what: str, *, transient: bool = False) -> Exception:
        error = self._error_class(f"connect_params: {self._path} {what}")
        error.is_transient = transient  # type: ignore[attr-defined]
        return error


def without_values(
    error: Exception, params: Mapping[str, Any], plain: Mapping[str, Any]
) -> Exception:
    """Return an error of connecting without the values of `params` that `plain` does not have."""
    text = shown = str(error)
    for name, value in params.items():
        if value and isinstance(value, str) and plain.get(name) != value:
            shown = shown.replace(value, f"<{name}>")
    return error if shown == text else type(error)(shown)


class _Call:
    """One call of the function, in a thread of its own."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.answer: object = None
        self.error: str | None = None
        """The text of its error. Not the error: its frames may hold what is secret."""

    def make(self, function: Callable[[Any], Any], params: HiddenDict) -> None:
        try:
            self.answer = function(params)
        except Exception as error:
            self.error = f"{type(error).__name__}: {one_line(error, LONGEST_TEXT)}"
        finally:
            self.done.set()
