"""Contenders that hang, fail or die. They run in processes of their own."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from pooling.bench.adapters.base import SQLITE
from pooling.bench.adapters.drivers import Bare

if TYPE_CHECKING:
    from pooling.bench.adapters.base import RunConfig
    from pooling.bench.contenders import Contender


class Hanging(Bare):
    """Never gives anything."""

    def acquire(self) -> Any:
        threading.Event().wait()


class Raising(Bare):
    """Always says no."""

    def acquire(self) -> Any:
        raise ConnectionError("out of\nluck")


class Refusing(Bare):
    """Cannot even be made."""

    def __init__(self, config: RunConfig) -> None:
        raise ValueError("no such pool")


class Dying(Bare):
    """Takes its process with it."""

    def acquire(self) -> Any:
        sys.stderr.write("something is rotten\n")
        sys.stderr.flush()
        os._exit(7)


class Limping(Bare):
    """Fails every other time."""

    calls = 0

    def acquire(self) -> Any:
        Limping.calls += 1
        if Limping.calls % 2:
            raise ConnectionError(f"not now ({Limping.calls % 20})")
        return super().acquire()


class Leaving(Bare):
    """Raises what is not an Exception."""

    def acquire(self) -> Any:
        raise SystemExit("bye")


class Stingy(Bare):
    """Has few connections, and lets callers wait for ever."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._free = threading.Semaphore(config.pool_size)

    def acquire(self) -> Any:
        self._free.acquire()
        return super().acquire()

    def release(self, connection: Any) -> None:
        super().release(connection)
        self._free.release()


def contender(adapter: type[Bare] | str) -> Contender:
    """Return a contender for SQLite with one of the adapters above, or with a missing one."""
    if isinstance(adapter, str):
        adapter = type(adapter, (Bare,), {"__module__": __name__})
    adapter.name = adapter.__name__.lower()
    adapter.title = adapter.__name__
    adapter.settings = ("none",) * 5
    adapter.vendors = (SQLITE,)
    return adapter
