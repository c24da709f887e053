"""What something costs, counted and not timed: the same on every machine, however busy.

The collector is off meanwhile, since the finalisers of others' garbage would be counted, too.
"""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


WARM_UP = 5


class Calls(NamedTuple):
    """How many functions were called, by what they are written in."""

    python: int
    c: int


def calls(act: Callable[[], object]) -> Calls:
    """Count the functions that `act` calls in this thread, directly and indirectly."""
    found = {"call": 0, "c_call": 0}

    def note(_frame: Any, event: str, _argument: Any) -> None:
        if event in found:
            found[event] += 1

    with _undisturbed(act):
        before = sys.getprofile()
        sys.setprofile(note)
        try:
            act()
        finally:
            sys.setprofile(before)
    # Not counted: `act` itself, and the call that ends the counting.
    return Calls(found["call"] - 1, found["c_call"] - 1)


def names(act: Callable[[], object]) -> list[str]:
    """Return the functions that `act` calls, for whoever wants to know where a budget went."""
    found: list[str] = []

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            found.append(frame.f_code.co_qualname)
        elif event == "c_call":
            found.append(f"({argument.__qualname__})")

    with _undisturbed(act):
        before = sys.getprofile()
        sys.setprofile(note)
        try:
            act()
        finally:
            sys.setprofile(before)
    return found[1:-1]


def bytecodes(act: Callable[[], object]) -> int:
    """Count the instructions of Python's that `act` runs in this thread."""
    with _undisturbed(act):
        return _monitored(act) if sys.version_info >= (3, 12) else _traced(act)


def _traced(act: Callable[[], object]) -> int:
    found = 0

    def note(_frame: Any, event: str, _argument: Any) -> Any:
        nonlocal found
        found += event == "opcode"
        return note

    def trace(frame: Any, _event: str, _argument: Any) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return note

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return found


def _monitored(act: Callable[[], object]) -> int:
    """Do the same with PEP 669, where a trace function that wants single instructions is late."""
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
    tool = next(each for each in range(6) if monitoring.get_tool(each) is None)
    found = 0
    me = threading.get_ident()

    def note(code: Any, _offset: int) -> None:
        nonlocal found
        if threading.get_ident() == me and code.co_filename != __file__:
            found += 1

    monitoring.use_tool_id(tool, __name__)
    monitoring.register_callback(tool, monitoring.events.INSTRUCTION, note)
    try:
        monitoring.set_events(tool, monitoring.events.INSTRUCTION)
        act()
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, None)
        monitoring.free_tool_id(tool)
    return found


def blocks_kept(act: Callable[[], object], times: int) -> int:
    """Return by how many blocks of memory the process has grown after `act` ran so many times."""
    with _undisturbed(act):
        before = sys.getallocatedblocks()
        for _ in range(times):
            act()
        gc.collect()
        return sys.getallocatedblocks() - before


def bytes_in_use(act: Callable[[], object]) -> int:
    """Return how many bytes `act` needs at most at any moment, those of its result included."""
    with _undisturbed(act):
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            act()
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()


@contextmanager
def _undisturbed(act: Callable[[], object]) -> Iterator[None]:
    """Run `act` a few times, so that caches are filled, then keep the collector away."""
    for _ in range(WARM_UP):
        act()
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
