"""Subclasses of a user's class of wrappers, for options that change how a wrapper works."""

from __future__ import annotations

from functools import lru_cache


def variant_of(wrapper_class: type, mixin: type) -> type:
    """Return the subclass of a class of wrappers with a mixin and the class's own name.

    It is part of a pool's key, so all threads have to get the same one. Two that miss in the cache
    at the same moment make one each, of which the cache keeps the first: so it is asked again.
    """
    _variant(wrapper_class, mixin)
    return _variant(wrapper_class, mixin)


@lru_cache(128)  # classes may be made per call
def _variant(wrapper_class: type, mixin: type) -> type:
    if issubclass(wrapper_class, mixin):
        return wrapper_class
    namespace = {
        "__module__": wrapper_class.__module__,
        "__qualname__": wrapper_class.__qualname__,
        "plain_class": getattr(wrapper_class, "plain_class", None) or wrapper_class,
    }
    return type(wrapper_class.__name__, (mixin, wrapper_class), namespace)
