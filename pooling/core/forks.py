"""What a forked child has to forget.

A fork copies the whole process but runs on with one thread. Locks that another thread held stay
locked for ever, threads are gone, and every connection is now shared with the parent: whatever the
child says on it, a polite goodbye included, would reach the parent's session. So whoever owns such
things registers here and is told in the child, before any other Python code runs there.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol


class Forkable(Protocol):
    """Something that must be made anew in a forked child."""

    def after_fork_in_child(self) -> None:
        """Take new locks and forget what belongs to the parent. The process has one thread."""
        ...


class Pausable(Forkable, Protocol):
    """Something that should not be in the middle of its work when the process is forked."""

    def before_fork(self) -> None:
        """Come to rest, in bounded time."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on."""
        ...


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
    inherited connection might then close it under its parent's feet, or warn that nobody did.
    """
    import ctypes  # here, since it takes a millisecond that most processes do not need

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _before_fork() -> None:
    import ctypes  # noqa: F401 - the child should not have to import anything

    for pausable in list(_pausables):
        pausable.before_fork()


def _after_fork_in_parent() -> None:
    for pausable in list(_pausables):
        pausable.after_fork_in_parent()


def _after_fork_in_child() -> None:
    global _told
    for forkable in list(_forkables):
        forkable.after_fork_in_child()
    _told = os.getpid()


def _after_fork_in_child_again() -> None:
    if _told != os.getpid():
        _after_fork_in_child()


_told = os.getpid()
"""The process in which everybody knows that it is the present one."""

if hasattr(os, "register_at_fork"):  # Windows has no fork, and nothing to forget
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
    # Python swallows an interrupt in a hook and does not call the hook again. So there are two.
    os.register_at_fork(
        after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child_again
    )
