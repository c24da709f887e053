"""Pool keys: what tells the sessions of one pool from those of another, and keeps it out of logs.

A key must be equal for equal settings, however often they are evaluated. Subclasses of a wrapper
may make objects for each call (a cursor class, a partial): such an object is described by what it
is made of, since its identity would lead to a new pool each time.
"""

from __future__ import annotations

import functools
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

_DEPTH = 8
"""How deep a description goes; objects may refer to themselves."""


class HiddenDict(dict[str, Any]):
    """A dict whose values do not show in its `repr`, and so not in a report of an exception.

    Django's reports show the local variables of every frame of a traceback; passwords are in
    connection parameters and in settings.
    """

    def __repr__(self) -> str:
        return f"<values of {', '.join(sorted(map(str, self)))}: hidden>"


class PoolKey:
    """The key of a pool in the registry. It does not show what it is made of."""

    __slots__ = ("_hash", "_parts")

    def __init__(self, *parts: Hashable) -> None:
        self._parts = parts
        self._hash = hash(parts)

    def extended(self, *parts: Hashable) -> PoolKey:
        """Return a key that is equal only to those that are extended in the same way."""
        return PoolKey(self, *parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PoolKey) and self._parts == other._parts

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"<PoolKey {self._hash:x}>"


def frozen(value: Any, depth: int = 0) -> Hashable:
    """Return something hashable that is equal for equal settings.

    Classes, functions and objects that compare by identity are described by name, code and state
    unless they can be imported.
    """
    if depth > _DEPTH:
        return type(value).__qualname__
    depth += 1
    if isinstance(value, dict):
        return frozenset((frozen(key, depth), frozen(item, depth)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(frozen(item, depth) for item in value)
    if isinstance(value, (set, frozenset)):
        return frozenset(frozen(item, depth) for item in value)
    if _is_importable(value):
        return value  # type: ignore[no-any-return]
    if isinstance(value, type):
        bases = tuple(frozen(base, depth) for base in value.__bases__)
        return "class", value.__module__, value.__qualname__, bases
    if isinstance(value, types.FunctionType):
        cells = tuple(_content(cell, depth) for cell in value.__closure__ or ())
        defaults = frozen([value.__defaults__, value.__kwdefaults__], depth)
        return "function", value.__module__, value.__qualname__, value.__code__, cells, defaults
    if isinstance(value, types.MethodType):
        return "method", frozen(value.__func__, depth), frozen(value.__self__, depth)
    if isinstance(value, functools.partial):
        return "partial", frozen([value.func, value.args, value.keywords], depth)
    by_identity: Any = object.__hash__
    if type(value).__hash__ is not by_identity:
        try:
            hash(value)
        except TypeError:  # it contains something that has no hash
            pass
        else:
            return value  # type: ignore[no-any-return]
    return "object", frozen(type(value), depth), frozen(_state(value), depth)


def is_made_per_call(value: object) -> bool:
    """Tell whether a parameter is an object that no module knows, and so may hold its caller.

    Such a class or function may count or log for the alias it was made for: aliases whose
    parameters have one do not share sessions.
    """
    return callable(value) and not _is_importable(value)


def _is_importable(value: object) -> bool:
    """Tell whether `value` is a class or a function that its module knows by its name."""
    name, module = getattr(value, "__qualname__", None), getattr(value, "__module__", None)
    if not isinstance(name, str) or not isinstance(module, str):
        return False
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def _content(cell: types.CellType, depth: int) -> Hashable:
    try:
        return frozen(cell.cell_contents, depth)
    except ValueError:  # it is empty
        return None


def _state(value: object) -> object:
    try:
        return value.__getstate__()
    except Exception:
        return None
