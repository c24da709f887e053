"""A contender's own process: what one does cannot harm the others, and each has its own driver.

It is started by `processes`, which talks to it over a pipe: orders come, answers go, one at a time.
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

    from .measurements import Opened, Turn, TurnReport
    from .adapters.base import Place, Way


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message.

    Attributes:
        way: where the contender's class is, as `module:name`.
        blocked: modules that have to look as if they were not installed.
    """

    way: str
    blocked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is none."""

    text: str


class Stage:
    """Where the contender works: a way to get connections, and a crew that uses it."""

    def __init__(self, way_class: type[Way]) -> None:
        self._way_class = way_class
        self._way: Way | None = None
        self._crew: Any = None
        self._place: Place | None = None

    def open(self, place: Place) -> None:
        """Open the contender's pool, if it has one. It has no connections yet, if it can do so."""
        from .load import new_crew

        self._place = place
        self._way = self._way_class(place)
        self._crew = new_crew(self._way, place.threads)
        # What is there by now will stay, and need not be swept again before every turn.
        gc.collect()
        gc.freeze()

    def turn(self, turn: Turn) -> TurnReport:
        """Let the crew do a turn."""
        gc.collect()  # nobody is to sweep up after another
        report: TurnReport = self._crew.work(turn)
        return report

    def close(self) -> Opened | None:
        """Close everything; return how many connections there were, if this process knows."""
        from .measurements import Opened

        way, crew = self._way, self._crew
        self._way = self._crew = None
        if way is None:
            return None
        if crew is not None:
            crew.close()
        if not way.uses_tasks:
            way.close()
        return None if way.count is None else Opened(way.count.opened, way.count.peak)


def serve(channel: Connection, new_stage: Callable[[Hello], Any]) -> None:
    """Obey until the other side hangs up. The first order is who to be, the others are verbs."""
    from .measurements import describe_error

    stage = None
    while True:
        try:
            verb, *arguments = channel.recv()
        except EOFError:
            return
        try:
            if stage is None:
                stage = new_stage(*arguments)
                answer = None
            else:
                answer = getattr(stage, verb)(*arguments)
        except Exception as error:
            answer = Failure(describe_error(error))
        channel.send(answer)


def find_way(hello: Hello) -> type[Way]:
    """Get Django and the contender's class ready."""
    for name in hello.blocked:
        sys.modules[name] = None  # type: ignore[assignment]

    import django
    from django.conf import settings

    settings.configure(USE_TZ=True)
    django.setup()
    logging.disable(logging.WARNING)  # watching takes time, and nobody would read it
    way: type[Way] = find_class(hello.way)
    return way


def find_class(name: str) -> Any:
    """Import a class by its name, `module:name`."""
    module, _, name = name.partition(":")
    return getattr(import_module(module), name)


def die_with_parent() -> None:
    """End this process when the one that started it is gone, whatever is being done."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=wait, name="poolbench-lifeline", daemon=True).start()


def main(new_stage: Callable[[Hello], Any] = lambda hello: Stage(find_way(hello))) -> None:
    die_with_parent()
    channel = Connection(int(sys.argv[1]))
    serve(channel, new_stage)
    # Whatever a contender has forgotten must not keep the process.
    os._exit(0)
