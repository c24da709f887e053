"""Pool keys: what tells the sessions of one pool from those of another, and keeps it out of logs.

A key must be equal for equal settings, however often they are evaluated. Subclasses of a wrapper
may make objects for each call (a cursor class, a partial): such an object is described by what it
is made of, since its identity would lead to a new pool each time.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import types
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:
    from collections.abc import Hashable

_NOT_DESCRIBED = frozenset(
    {
        *("__dict__", "__weakref__", "__doc__", "__module__", "__qualname__"),
        *("__firstlineno__", "__static_attributes__"),
    }
)
"""Members of a class that say nothing about it, or that each class has for itself."""
_ATOMS = frozenset({*(str, int, bool, float, bytes), *map(type, (None, ..., NotImplemented))})
"""Types whose objects are what they show."""
_DESCRIPTORS = (
    *(types.MemberDescriptorType, types.GetSetDescriptorType, types.WrapperDescriptorType),
    *(types.MethodDescriptorType, types.ClassMethodDescriptorType),
)
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_CONTAINERS = (list, tuple, set, frozenset)
_LARGEST = 1_000
"""The most objects that are described: a closure may lead to half of the process."""
_DESCRIBED: dict[int, tuple[weakref.ref[Any], Hashable]] = {}
"""The descriptions of objects that exist, by their ids."""


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


def frozen(value: Any) -> Hashable:
    """Return something hashable that is equal for equal settings, and for them only.

    Classes, functions and objects that compare by identity are described by name, code and state
    unless they can be imported: as they were when they were first seen, since their state may
    change (a class that counts its objects). What is too large to be described is itself.
    """
    if isinstance(value, Mapping):
        return frozenset((frozen(key), frozen(item)) for key, item in value.items())
    known = _DESCRIBED.get(id(value))
    if known is not None and known[0]() is value:
        return known[1]
    description = _Description()
    found = description.of(value)
    if isinstance(found, tuple) and not isinstance(value, _CONTAINERS) and description.is_lasting:
        with contextlib.suppress(TypeError):  # there are no weak references to it
            found = _remember(value, found)
    return found


def _remember(value: object, description: Hashable) -> Hashable:
    """Note the description of an object, and return the one that was noted first.

    Two threads may describe it at the same moment; with two descriptions they had two pools.
    """
    number = id(value)
    if len(_DESCRIBED) >= _LARGEST:
        _DESCRIBED.clear()  # a description may lead back to its object, and so keep itself
    reference = weakref.ref(value, lambda _: _DESCRIBED.pop(number, None))
    known = _DESCRIBED.setdefault(number, (reference, description))
    if known[0]() is value:
        return known[1]
    _DESCRIBED[number] = reference, description  # what was there is left of another object
    return description


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


class _Description:
    """One description, in which each object occurs once, however many others refer to it."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        """The objects that occurred, by their ids."""
        self._kept: list[object] = []
        """The same, so that no id is used again meanwhile."""
        self.is_lasting = True
        """Whether it leads to no wrapper, whose attributes are those of the present caller."""

    def of(self, value: Any) -> Hashable:
        """Describe an object, the first time; say which one it is from then on."""
        if type(value) in _ATOMS or _is_importable(value) or _is_static(value):
            return value  # type: ignore[no-any-return]
        number = self._numbers.setdefault(id(value), len(self._kept))
        if number < len(self._kept):
            return "again", number
        if number == _LARGEST:
            return _Identity(value)
        self._kept.append(value)
        return self._describe(value)

    def _describe(self, value: Any) -> Hashable:
        if isinstance(value, Mapping):
            return frozenset((self.of(key), self.of(item)) for key, item in value.items())
        if isinstance(value, (list, tuple)):
            return tuple(self.of(item) for item in value)
        if isinstance(value, (set, frozenset)):
            return frozenset(self.of(item) for item in value)
        if isinstance(value, type):
            members = vars(value).copy()  # in one step: another thread may add an attribute
            for name in _NOT_DESCRIBED:
                members.pop(name, None)
            described = self.of([value.__bases__, members])
            return "class", value.__module__, value.__qualname__, described
        if isinstance(value, types.FunctionType):
            cells = tuple(self._content(cell) for cell in value.__closure__ or ())
            defaults = self.of([value.__defaults__, value.__kwdefaults__])
            names = value.__module__, value.__qualname__
            return "function", *names, value.__code__, cells, defaults
        if isinstance(value, (types.MethodType, types.BuiltinMethodType)):
            function = getattr(value, "__func__", value.__name__)
            return "method", self.of(function), self.of(value.__self__)
        if isinstance(value, (classmethod, staticmethod)):
            return type(value).__name__, self.of(value.__func__)
        if isinstance(value, property):
            return "property", self.of([value.fget, value.fset, value.fdel])
        if isinstance(value, functools.partial):
            return "partial", self.of([value.func, value.args, value.keywords])
        if isinstance(value, _DESCRIPTORS):
            return type(value), value.__name__
        if isinstance(value, BaseDatabaseWrapper):
            self.is_lasting = False
            return "wrapper", self.of(type(value)), value.alias, self.of(_attributes(value))
        by_identity: Any = object.__hash__
        if type(value).__hash__ is not by_identity:
            try:
                hash(value)
            except TypeError:  # it contains something that has no hash
                pass
            else:
                return value  # type: ignore[no-any-return]
        return "object", self.of(type(value)), self.of(_state(value))

    def _content(self, cell: types.CellType) -> Hashable:
        try:
            return self.of(cell.cell_contents)
        except ValueError:  # it is empty
            return None


class _Identity:
    """An object that is equal to itself alone."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


def _is_static(value: object) -> bool:
    """Tell whether an object is a module or a type in C: there is one of the name."""
    return isinstance(value, types.ModuleType) or (
        isinstance(value, type) and not value.__flags__ & _HEAP_TYPE
    )


def _attributes(wrapper: BaseDatabaseWrapper) -> dict[str, Any]:
    """Return what users have set on a wrapper: its tenant, perhaps."""
    known = {*vars(type(wrapper)(wrapper.settings_dict, wrapper.alias))}
    for each in type(wrapper).__mro__:
        if each.__module__.partition(".")[0] in ("django", "pooling"):
            known |= vars(each).keys()  # counters, and what is computed once
    return {name: value for name, value in vars(wrapper).items() if name not in known}


def _state(value: object) -> object:
    try:
        return value.__getstate__()
    except Exception:
        return None
