"""Suspend processes as a whole: what answers after that is not the process."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .databases import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator


def suspend(pid: int) -> None:
    """Suspend a process, and wait until its last thread has stopped.

    `kill` returns before: on a busy machine the threads of a server go on answering for a while.
    """
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE
    while not is_suspended(pid):
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(0.001)


def is_suspended(pid: int) -> bool:
    """Tell whether no thread of a process runs."""
    # The name in front of the state may contain anything, `)` included.
    states = (
        (task / "stat").read_text().rpartition(")")[2].split()[0]
        for task in Path(f"/proc/{pid}/task").iterdir()
    )
    return all(state in "TZ" for state in states)


def resume(pid: int) -> None:
    """Let a suspended process go on; do nothing if it was killed meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


@contextmanager
def suspended(pid: int) -> Iterator[None]:
    """Suspend a process for the length of a block."""
    try:
        suspend(pid)
        yield
    finally:
        resume(pid)
