"""The project's own work: a view, or a callable that does what one request does."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.test import RequestFactory

if TYPE_CHECKING:
    from collections.abc import Callable


class OwnWorkError(RuntimeError):
    """The project's work did not do what it should; the message says what to do."""


class OwnWork:
    """Calls a view by its path through Django's WSGI handler, or a callable `module:name`.

    A callable may have the attributes `set_up` and `clean_up`: callables of their own, each called
    once for each contender. A class is instantiated first.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        if target.startswith("/"):
            # The host of Django's test client; who calls this is not the question here.
            settings.ALLOWED_HOSTS = [*settings.ALLOWED_HOSTS, "testserver"]
            self._handler = import_module("django.core.wsgi").get_wsgi_application()
            self._call: Callable[[], Any] = self._get
            self.clean_up: Callable[[], Any] = bool
            return
        work = find_callable(target)
        work = work() if isinstance(work, type) else work
        self._call, self.clean_up = work, getattr(work, "clean_up", bool)
        getattr(work, "set_up", bool)()

    def __call__(self) -> None:
        self._call()

    def _get(self) -> None:
        environ = RequestFactory().get(self._target).environ
        response = self._handler(environ, lambda *_: None)
        for _ in response:
            pass
        response.close()
        if response.status_code >= 400:
            raise OwnWorkError(f"GET {self._target} answered {response.status_code}")


def find_callable(target: str) -> Any:
    """Import what `module:name` stands for.

    Raises:
        OwnWorkError: there is no such thing, or it cannot be called.
    """
    module, _, name = target.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise OwnWorkError(f"--workload {target}: {error}") from error
    if not callable(found):
        raise OwnWorkError(f"--workload {target}: it cannot be called")
    return found
