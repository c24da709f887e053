"""Contenders' processes as seen by the one that runs the benchmark."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .watcher import end_process
from .worker import Failure, Hello

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .contenders import Contender
    from .measurements import Opened, Turn, TurnReport
    from .adapters.base import Place

START_BOUND = 60.0
CLOSE_BOUND = 15.0
END_BOUND = 5.0

# Not `-m`: what it sends has to come from a module that this side knows under the same name.
PROGRAM = "from pooling.bench.worker import main; main()"


class ContenderFailedError(RuntimeError):
    """A contender raised something where it should not; it can be asked again."""


class ContenderStoppedError(ContenderFailedError):
    """A contender did not answer in time and was stopped, or its process has ended."""


class WorkerProcess:
    """Somebody who works in a process of its own.

    Every method waits for the answer, for a bounded time, and raises `ContenderFailedError` if it
    is not what was hoped for. The process is started by `start` and ended by `end`, or with this
    process, whatever happens to that.
    """

    program = PROGRAM

    def __init__(self, hello: Hello) -> None:
        self._hello = hello
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exception is None:
            self.end()
        else:  # Ctrl-C, above all: what it is doing is of no use to anybody
            self.kill()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process; do not wait until it is ready."""
        self._channel, theirs = multiprocessing.Pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", self.program, str(theirs.fileno())],
            stdin=subprocess.PIPE,  # when it breaks, we are gone
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,  # out of reach of the terminal's Ctrl-C
        )
        theirs.close()
        self._channel.send(("hello", self._hello))

    def ready(self) -> None:
        """Wait until it has started."""
        self._answer(START_BOUND)

    def end(self) -> None:
        """End the process, by force if it does not go by itself. May be called twice."""
        if self._process is None:
            return
        process, self._process = self._process, None
        self._channel.close()
        try:
            end_process(process, None, END_BOUND)
        finally:
            self._errors.close()

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.kill()
        self.end()

    def _ask(self, bound: float, verb: str, *arguments: Any) -> Any:
        if self._process is None:
            raise ContenderStoppedError("it is not running any more")
        try:
            self._channel.send((verb, *arguments))
        except OSError:
            raise self._ended() from None
        return self._answer(bound)

    def _answer(self, bound: float) -> Any:
        try:
            if not self._channel.poll(bound):
                self.kill()
                raise ContenderStoppedError(f"stopped: no answer within {bound:g} s")
            answer = self._channel.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if isinstance(answer, Failure):
            raise ContenderFailedError(answer.text)
        return answer

    def _ended(self) -> ContenderStoppedError:
        """Say how the process has ended."""
        code: int | None = None
        last = ""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(END_BOUND)
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            last = f": {lines[-1][:200]}" if lines else ""
        self.kill()
        return ContenderStoppedError(f"its process has ended ({code}){last}")


class ContenderProcess(WorkerProcess):
    """A contender in a process of its own."""

    def __init__(self, contender: Contender) -> None:
        super().__init__(Hello(contender.way, contender.blocked))
        self.contender = contender

    def open(self, place: Place, bound: float) -> None:
        """Open the contender's pool, if it has one."""
        self._ask(bound, "open", place)

    def turn(self, turn: Turn, bound: float) -> TurnReport:
        """Let it work, at most `bound` seconds."""
        report: TurnReport = self._ask(bound, "turn", turn)
        return report

    def close(self) -> Opened | None:
        """Close all connections; return how many there were, if it knows."""
        opened: Opened | None = self._ask(CLOSE_BOUND, "close")
        return opened
