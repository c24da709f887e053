"""Activity of the current thread or task, shown for the connections it holds.

Requests, Celery tasks and management commands are recorded automatically if "pooling" is in
`INSTALLED_APPS`. For other work use `doing`:

    with pooling.activity.doing("nightly import"):
        ...

A request is recorded as its method and path, without the query string and nothing else.
"""

from __future__ import annotations

import contextlib
import re
import sys
from contextvars import ContextVar
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_LENGTH = 200
"""Characters of an activity: it is copied into errors and snapshots."""

_CURRENT: ContextVar[str | None] = ContextVar("pooling_activity", default=None)
_OUTER: ContextVar[str | None] = ContextVar("pooling_activity_outer", default=None)
"""The activity outside of requests, restored when a request ends."""
_TASKS: ContextVar[tuple[tuple[str | None, str | None], ...]] = ContextVar(
    "pooling_activity_tasks", default=()
)
"""Activities interrupted by the running Celery tasks, which may be nested."""

current = _CURRENT.get
"""Return the activity of the current context, or None. Called by every acquire."""


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Set the activity in this thread or task and in those that copy its context.

    May be nested and used inside a request; the previous activity is restored at the end.
    """
    what = _sanitized(what)
    activity, outer = _CURRENT.set(what), _OUTER.set(what)
    try:
        yield
    finally:
        _CURRENT.reset(activity)
        _OUTER.reset(outer)


def connect_signals() -> None:
    """Record requests, Celery tasks and the management command of this process.

    With `POOLING = {"activity": False}` in the settings only `doing` is recorded.
    """
    from asgiref.sync import markcoroutinefunction
    from django.conf import settings
    from django.core.handlers.asgi import ASGIHandler
    from django.core.signals import request_finished, request_started

    options = getattr(settings, "POOLING", None)
    if isinstance(options, dict) and options.get("activity", True) is False:
        return
    uid = "pooling.activity"
    request_started.connect(_request_started, dispatch_uid=uid)
    request_finished.connect(_request_finished, dispatch_uid=uid)
    # Before Django 6.1, context variables set by a synchronous receiver under ASGI are lost with
    # the task it runs in. An asynchronous one is called in the request's task.
    request_started.connect(
        markcoroutinefunction(_ASYNC_REQUEST_STARTED), sender=ASGIHandler, dispatch_uid=uid
    )
    if "celery" in sys.modules:
        from celery import signals  # type: ignore[import-untyped,unused-ignore]

        signals.task_prerun.connect(_task_started, dispatch_uid=uid, weak=False)
        signals.task_postrun.connect(_task_finished, dispatch_uid=uid, weak=False)
    command = command_of(sys.argv)
    if command is not None:
        _CURRENT.set(command)
        _OUTER.set(command)


def command_of(argv: Sequence[str]) -> str | None:
    """Return the management command in the arguments of a process, None if there is none."""
    if len(argv) < 2:
        return None
    program = PurePath(argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    if name not in {"manage.py", "django-admin", "django-admin.py", "django"}:
        return None
    return f"manage.py {argv[1]}" if re.fullmatch(r"\w[\w-]*", argv[1]) else None


def request_of(environ: Mapping[str, Any]) -> str:
    """Return the method and the path of a WSGI request."""
    path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"[: MAX_LENGTH * 4]
    # WSGI decodes the bytes of the path as latin-1.
    path = path.encode("latin-1", "replace").decode("utf-8", "replace")
    return _sanitized(f"{environ.get('REQUEST_METHOD', '?')} {path}")


def _request_of_scope(scope: Mapping[str, Any]) -> str:
    return _sanitized(f"{scope.get('method', '?')} {scope.get('path', '')}")


def _request_started(
    environ: Mapping[str, Any] | None = None,
    scope: Mapping[str, Any] | None = None,
    **_: Any,
) -> None:
    if environ is not None:
        _CURRENT.set(request_of(environ))
    elif scope is not None:
        _CURRENT.set(_request_of_scope(scope))


def _request_finished(**_: Any) -> None:
    _CURRENT.set(_OUTER.get())


class _AsyncRequestStarted:
    """Asynchronous receiver that sets the activity when it is called, before it is awaited.

    `asend` calls asynchronous receivers in the request's task, but awaits the results in other
    tasks, whose contexts are copies. So the variable has to be set by the call.
    """

    def __call__(self, *, scope: Mapping[str, Any] | None = None, **_: Any) -> Any:
        _request_started(scope=scope)
        return self._finish()

    async def _finish(self) -> None:
        pass


_ASYNC_REQUEST_STARTED = _AsyncRequestStarted()


def _task_started(sender: Any = None, **_: Any) -> None:
    _TASKS.set((*_TASKS.get(), (_CURRENT.get(), _OUTER.get())))
    what = _sanitized(f"task {getattr(sender, 'name', sender)}")
    _CURRENT.set(what)
    _OUTER.set(what)


def _task_finished(**_: Any) -> None:
    *outer, interrupted = _TASKS.get() or ((None, None),)
    _TASKS.set(tuple(outer))
    _CURRENT.set(interrupted[0])
    _OUTER.set(interrupted[1])


def _sanitized(what: str) -> str:
    """Limit the length and escape line breaks and other control characters."""
    what = what[: MAX_LENGTH + 1]
    if not what.isprintable():
        what = "".join(
            each if each.isprintable() else each.encode("unicode_escape").decode() for each in what
        )
    return what if len(what) <= MAX_LENGTH else what[: MAX_LENGTH - 1] + "…"
