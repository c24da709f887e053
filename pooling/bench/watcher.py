"""The end of processes that we started: ordered, or because we are gone ourselves."""

from __future__ import annotations

import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

END_TIMEOUT = 20.0

# Reads the server's pid (or an empty line for "not running") until it is told to leave. The end of
# the input means that the owner is gone without having said so (SIGKILL, SIGTERM, os._exit): clean
# up for it.
SCRIPT = """
pid=
while read -r word; do
    [ "$word" = bye ] && exit 0
    pid=$word
done
if [ -n "$pid" ]; then
    kill -QUIT "$pid"
    kill -CONT "$pid"
    waited=0
    while kill -0 "$pid" && [ "$waited" -lt 100 ]; do
        sleep 0.1
        waited=$((waited + 1))
    done
fi
rm -rf -- "$1"
"""


class Watcher:
    """A small process that outlives this one, to stop a server and remove its folder."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", SCRIPT, "sh", str(folder)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # out of reach of the terminal's Ctrl-C
        )

    def watch(self, pid: int | None) -> None:
        """Name the process to stop in case of need; None if there is none any more."""
        self._tell(str(pid or ""))

    def dismiss(self) -> None:
        """End the watcher: there is nothing left to clean up."""
        self._tell("bye")
        end_process(self._process, signal.SIGTERM)

    def _tell(self, word: str) -> None:
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # somebody has killed it
                self._process.stdin.write(f"{word}\n".encode())


def end_process(
    process: subprocess.Popen[bytes],
    polite: signal.Signals | None,
    seconds: float = END_TIMEOUT,
) -> bool:
    """End a process that we started; return False if it took a SIGKILL.

    Args:
        polite: what it is told to end by; None if it has been told already.
        seconds: how long it may take. Ctrl-C while waiting kills it, too.
    """
    obeyed = True
    if process.poll() is None and polite is not None:
        process.send_signal(polite)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        obeyed = False
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()
    return obeyed
