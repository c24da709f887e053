"""The contender's side of a process: a server that obeys one request at a time over a pipe.

A contender cannot harm the others there, and each has its own driver. Started by `processes`.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .adapters.base import PoolAdapter, RunConfig
    from .measurements import ConnectionCounts, Trial, TrialReport


@dataclass(frozen=True, slots=True)
class Handshake:
    """The first message.

    Attributes:
        adapter: where the class to work with is, as `module:name`.
        blocked: modules that have to look as if they were not installed.
    """

    adapter: str
    blocked: tuple[str, ...] = ()

    def load(self) -> Any:
        """Hide the blocked modules, silence the logs, and return the class."""
        for name in self.blocked:
            sys.modules[name] = None  # type: ignore[assignment]
        logging.disable(logging.WARNING)  # writing takes time, and is read by no one
        return find_class(self.adapter)


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer to a request that raised an error."""

    text: str


class TrialServer:
    """Runs the trials of one contender: an adapter to get connections, and a load that uses it."""

    def __init__(self, handshake: Handshake) -> None:
        import django
        from django.conf import settings

        settings.configure(USE_TZ=True)
        django.setup()
        self._adapter_class: type[PoolAdapter] = handshake.load()
        self._adapter: Any = None
        self._load: Any = None

    def open(self, config: RunConfig) -> None:
        """Open the contender's pool, if it has one; as far as it can, without connections."""
        from .load import new_load

        self._adapter = self._adapter_class(config)
        self._load = new_load(self._adapter, config.threads)
        # What is there by now stays, and need not be collected again before every trial.
        gc.collect()
        gc.freeze()

    def trial(self, trial: Trial) -> TrialReport:
        """Run a trial, after collecting what the one before has left."""
        gc.collect()
        report: TrialReport = self._load.run(trial)
        return report

    def close(self) -> ConnectionCounts | None:
        """Close everything; return how many connections there were, if this process knows."""
        adapter, load = self._adapter, self._load
        self._adapter = self._load = None
        if load is not None:
            load.close()
        if adapter is None:
            return None
        adapter.close()
        counts: ConnectionCounts | None = adapter.count and adapter.count.total()
        return counts


def serve(channel: Connection, new_server: Callable[[Any], Any]) -> None:
    """Answer requests until the other side hangs up; the first one makes the server."""
    from .measurements import describe_error

    server = None
    while True:
        try:
            verb, *arguments = channel.recv()
        except EOFError:
            return
        try:
            if server is None:
                server = new_server(*arguments)
                answer = None
            else:
                answer = getattr(server, verb)(*arguments)
        except Exception as error:
            answer = Failure(describe_error(error))
        channel.send(answer)


def find_class(name: str) -> Any:
    """Import a class by its name, `module:name`."""
    module, _, name = name.partition(":")
    return getattr(import_module(module), name)


def end_with_parent() -> None:
    """End this process when the one that started it is gone, whatever it is doing."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=wait, name="poolbench-lifeline", daemon=True).start()


def main(new_server: Callable[[Any], Any] = TrialServer) -> None:
    """Serve until the parent hangs up."""
    end_with_parent()
    serve(Connection(int(sys.argv[1])), new_server)
    # What a contender has left open must not keep the process.
    os._exit(0)
