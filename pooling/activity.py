"""What the current thread or task is doing, for those who ask who holds a connection.

A request, a Celery task and a management command are known by themselves once "pooling" is in
`INSTALLED_APPS`. For work of your own there is `doing`:

    with pooling.activity.doing("nightly import"):
        ...

The path of a request is told without its query string. Nothing else of a request is looked at.
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

LONGEST = 200
"""Characters of an activity that are kept: it is copied into every error and every snapshot."""

_CURRENT: ContextVar[str | None] = ContextVar("pooling_activity", default=None)
_AROUND: ContextVar[str | None] = ContextVar("pooling_activity_around", default=None)
"""What goes on around requests: a request that ends leaves this behind, never another request."""
_TASKS: ContextVar[tuple[tuple[str | None, str | None], ...]] = ContextVar(
    "pooling_activity_tasks", default=()
)
"""What the Celery tasks that run now have interrupted; tasks may call each other."""

current = _CURRENT.get
"""Return what the current context is doing, or None. Every acquire calls this: it is a read."""


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Say what the code inside is doing, in this thread or task and those that copy its context.

    May be nested, and used inside a request; the activity of before comes back at the end.
    """
    what = _tidy(what)
    activity, around = _CURRENT.set(what), _AROUND.set(what)
    try:
        yield
    finally:
        _CURRENT.reset(activity)
        _AROUND.reset(around)


def watch() -> None:
    """Learn of requests, Celery tasks and the management command of this process.

    With `POOLING = {"activity": False}` in the settings it does not, and only `doing` is heard.
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
    # Before Django 6.1 what an ordinary receiver sets under ASGI is lost with the task it runs in.
    # So there the handler gets one that counts as asynchronous; see `_RequestStartedSoon`.
    request_started.connect(
        markcoroutinefunction(_REQUEST_STARTED_SOON), sender=ASGIHandler, dispatch_uid=uid
    )
    if "celery" in sys.modules:
        from celery import signals  # type: ignore[import-untyped,unused-ignore]

        signals.task_prerun.connect(_task_started, dispatch_uid=uid, weak=False)
        signals.task_postrun.connect(_task_finished, dispatch_uid=uid, weak=False)
    command = command_of(sys.argv)
    if command is not None:
        _CURRENT.set(command)
        _AROUND.set(command)


def command_of(argv: Sequence[str]) -> str | None:
    """Return the management command that a process with these arguments runs, if it is one."""
    if len(argv) < 2:
        return None
    program = PurePath(argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    if name not in {"manage.py", "django-admin", "django-admin.py", "django"}:
        return None
    return f"manage.py {argv[1]}" if re.fullmatch(r"\w[\w-]*", argv[1]) else None


def request_of(environ: Mapping[str, Any]) -> str:
    """Return the method and the path of a WSGI request."""
    path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"[: LONGEST * 4]
    # WSGI hands over the bytes of the path as if they were latin-1.
    path = path.encode("latin-1", "replace").decode("utf-8", "replace")
    return _tidy(f"{environ.get('REQUEST_METHOD', '?')} {path}")


def _request_of_scope(scope: Mapping[str, Any]) -> str:
    return _tidy(f"{scope.get('method', '?')} {scope.get('path', '')}")


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
    _CURRENT.set(_AROUND.get())


class _RequestStartedSoon:
    """A receiver for `asend` whose work is done when it is called, before it is awaited.

    `asend` calls its asynchronous receivers in the request's own task and awaits what they return
    in others, whose contexts are copies. So the variable has to be set by the call.
    """

    def __call__(self, *, scope: Mapping[str, Any] | None = None, **_: Any) -> Any:
        _request_started(scope=scope)
        return self._nothing()

    async def _nothing(self) -> None:
        pass


_REQUEST_STARTED_SOON = _RequestStartedSoon()


def _task_started(sender: Any = None, **_: Any) -> None:
    _TASKS.set((*_TASKS.get(), (_CURRENT.get(), _AROUND.get())))
    what = _tidy(f"task {getattr(sender, 'name', sender)}")
    _CURRENT.set(what)
    _AROUND.set(what)


def _task_finished(**_: Any) -> None:
    *outer, interrupted = _TASKS.get() or ((None, None),)
    _TASKS.set(tuple(outer))
    _CURRENT.set(interrupted[0])
    _AROUND.set(interrupted[1])


def _tidy(what: str) -> str:
    """Bound the length, and leave nothing that could pass for another line of a log."""
    what = what[: LONGEST + 1]
    if not what.isprintable():
        what = "".join(
            each if each.isprintable() else each.encode("unicode_escape").decode() for each in what
        )
    return what if len(what) <= LONGEST else what[: LONGEST - 1] + "…"
