"""Fork safety: objects that a forked child has to reset.

A fork copies the whole process but continues with one thread. Locks that another thread held stay
locked for ever, threads are gone, and every connection is shared with the parent: any message that
the child sends, even to close the connection, reaches the parent's session. So objects that own
such things register here, and are reset in the child before any other Python code runs there:
pools (`Pool._forget_inherited`), the wrappers of Django's connections, threads and their locks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from typing import Any, Protocol

logger = logging.getLogger("pooling")


class Forkable(Protocol):
    """An object that must be reset in a forked child."""

    def after_fork_in_child(self) -> None:
        """Take new locks and forget what belongs to the parent. The process has one thread."""
        ...


class Pausable(Forkable, Protocol):
    """An object that should not be in the middle of its work when the process is forked."""

    def before_fork(self) -> None:
        """Come to rest, in bounded time."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on."""
        ...


_kept: list[object] = []
_forkables: weakref.WeakSet[Any] = weakref.WeakSet()
_pausables: weakref.WeakSet[Any] = weakref.WeakSet()


def register(forkable: Forkable) -> None:
    """Have `forkable.after_fork_in_child` called in every forked child, as long as it lives."""
    _forkables.add(forkable)


def register_pausable(pausable: Pausable) -> None:
    """Do the same as `register`, and have forks of this process wait for `pausable` to rest."""
    _forkables.add(pausable)
    _pausables.add(pausable)


def immortalise(inherited: object) -> None:
    """Keep an object alive beyond the end of the interpreter.

    A reference in a module is not enough: modules are emptied at exit, and the finaliser of an
    inherited connection could then end the parent's session, or warn that it was not closed.
    """
    try:
        import ctypes  # here, since it takes a millisecond that most processes do not need

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
    except ImportError:  # a Python without libffi: as long as modules live
        _kept.append(inherited)


def _before_fork() -> None:
    with contextlib.suppress(ImportError):
        import ctypes  # noqa: F401 - the child should not have to import anything

    for pausable in list(_pausables):
        pausable.before_fork()


def _after_fork_in_parent() -> None:
    for pausable in list(_pausables):
        pausable.after_fork_in_parent()


def _after_fork_in_child() -> None:
    global _reset_in
    for forkable in list(_forkables):
        try:
            forkable.after_fork_in_child()
        except Exception:  # the others must be reset all the same
            logger.exception("%r could not be reset in a forked child", forkable)
    _reset_in = os.getpid()


def _after_fork_in_child_again() -> None:
    if _reset_in != os.getpid():
        _after_fork_in_child()


_reset_in = os.getpid()
"""The process in which the registered objects were reset last."""

if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
    # Python swallows an interrupt in a hook and does not call the hook again. So there are two.
    os.register_at_fork(
        after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child_again
    )
