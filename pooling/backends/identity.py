"""Pool keys: what tells the sessions of one pool from those of another, and keeps it out of logs.

A key must be equal for equal settings, however often they are evaluated. Subclasses of a wrapper
may make objects for each call (a cursor class, a partial): such an object is described by what it
is made of, since its identity would lead to a new pool each time.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

_NOT_DESCRIBED = frozenset(
    {
        *("__dict__", "__weakref__", "__doc__", "__module__", "__qualname__"),
        *("__firstlineno__", "__static_attributes__"),
    }
)
"""Members of a class that say nothing about it, or that each class has for itself."""


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


def frozen(value: Any, outer: tuple[int, ...] = ()) -> Hashable:
    """Return something hashable that is equal for equal settings, and for them only.

    Classes, functions and objects that compare by identity are described by name, code and state
    unless they can be imported.

    Args:
        outer: the ids of the objects that are being described, which may refer to themselves.
    """
    if id(value) in outer:
        return "recursion", outer.index(id(value))
    outer = (*outer, id(value))
    if isinstance(value, Mapping):
        return frozenset((frozen(key, outer), frozen(item, outer)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(frozen(item, outer) for item in value)
    if isinstance(value, (set, frozenset)):
        return frozenset(frozen(item, outer) for item in value)
    if _is_importable(value):
        return value  # type: ignore[no-any-return]
    if isinstance(value, type):
        members = {name: each for name, each in vars(value).items() if name not in _NOT_DESCRIBED}
        described = frozen([value.__bases__, members], outer)
        return "class", value.__module__, value.__qualname__, described
    if isinstance(value, types.FunctionType):
        cells = tuple(_content(cell, outer) for cell in value.__closure__ or ())
        defaults = frozen([value.__defaults__, value.__kwdefaults__], outer)
        return "function", value.__module__, value.__qualname__, value.__code__, cells, defaults
    if isinstance(value, types.MethodType):
        return "method", frozen(value.__func__, outer), frozen(value.__self__, outer)
    if isinstance(value, (classmethod, staticmethod)):
        return type(value).__name__, frozen(value.__func__, outer)
    if isinstance(value, property):
        return "property", frozen([value.fget, value.fset, value.fdel], outer)
    if isinstance(value, functools.partial):
        return "partial", frozen([value.func, value.args, value.keywords], outer)
    by_identity: Any = object.__hash__
    if type(value).__hash__ is not by_identity:
        try:
            hash(value)
        except TypeError:  # it contains something that has no hash
            pass
        else:
            return value  # type: ignore[no-any-return]
    return "object", frozen(type(value), outer), frozen(_state(value), outer)


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


def _content(cell: types.CellType, outer: tuple[int, ...]) -> Hashable:
    try:
        return frozen(cell.cell_contents, outer)
    except ValueError:  # it is empty
        return None


def _state(value: object) -> object:
    try:
        return value.__getstate__()
    except Exception:
        return None
