"""Child processes: they end with this process; contenders answer over a pipe."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pooling.formatting import one_line

from .worker import Failure, Handshake

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping
    from typing import Self

    from .adapters.base import RunConfig
    from .contenders import Contender
    from .measurements import ConnectionCounts, Trial, TrialReport

START_TIMEOUT = 60.0
CLOSE_TIMEOUT = 15.0
END_TIMEOUT = 5.0


class WorkerFailedError(RuntimeError):
    """A worker raised an error; it can be asked again."""


class WorkerStoppedError(WorkerFailedError):
    """A worker did not answer in time and was stopped, or its process has ended."""


def start_python(
    code: str, *arguments: str, env: Mapping[str, str] = os.environ, **options: Any
) -> subprocess.Popen[bytes]:
    """Start Python code with this process's `sys.path`.

    The code has to call `worker.end_with_parent`: its standard input is a pipe that breaks when
    this process ends. Ctrl-C at the terminal does not reach it.
    """
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**env, "PYTHONPATH": paths},
        start_new_session=True,
        **options,
    )


def end_process(
    process: subprocess.Popen[bytes], polite: signal.Signals | None, seconds: float
) -> bool:
    """End a child process; return False if it took a SIGKILL.

    Args:
        polite: the signal that asks it to end; None if it has been asked already.
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


class WorkerProcess:
    """A child process that answers over a pipe, one request at a time.

    Every method waits for the answer for a bounded time, and raises `WorkerFailedError` if it is an
    error. The process is started by `start` and ended by `end`, or when this process ends. Leaving
    the `with` block with an exception, such as Ctrl-C, kills it.

    Args:
        first: the message that the program begins with.
    """

    # Not `-m`: what it sends has to come from a module that this side knows by the same name.
    program = "from pooling.bench.worker import main; main()"

    def __init__(self, first: object) -> None:
        self._first = first
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, exception: BaseException | None, __: object) -> None:
        if exception is None:
            self.end()
        else:
            self.kill()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process; do not wait until it is ready."""
        self._channel, theirs = multiprocessing.Pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = start_python(
            self.program, str(theirs.fileno()), stderr=self._errors, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self._channel.send(("handshake", self._first))

    def ready(self) -> Any:
        """Wait until it has started; return its first answer."""
        return self._answer(START_TIMEOUT)

    def end(self) -> None:
        """End the process, by force if it does not end by itself. May be called twice."""
        if self._process is None:
            return
        process, self._process = self._process, None
        self._channel.close()
        try:
            end_process(process, None, END_TIMEOUT)
        finally:
            self._errors.close()

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.kill()
        self.end()

    def ask(self, timeout: float, verb: str, *arguments: Any) -> Any:
        """Send a request and return the answer.

        Raises:
            WorkerFailedError: the worker raised an error.
            WorkerStoppedError: it did not answer within `timeout` seconds, or has ended.
        """
        if self._process is None:
            raise WorkerStoppedError("it is not running any more")
        try:
            self._channel.send((verb, *arguments))
        except OSError:
            raise self._ended() from None
        return self._answer(timeout)

    def _answer(self, timeout: float) -> Any:
        try:
            if not self._channel.poll(timeout):
                self.kill()
                raise WorkerStoppedError(f"stopped: no answer within {timeout:g} s")
            answer = self._channel.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if isinstance(answer, Failure):
            raise WorkerFailedError(answer.text)
        return answer

    def _ended(self) -> WorkerStoppedError:
        """Return an error with the exit code and the last line of the error output."""
        code, last = None, ""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(END_TIMEOUT)
            self._errors.seek(0)
            for line in self._errors.read().decode(errors="replace").strip().splitlines():
                last = f": {one_line(line, 200)}"
        self.kill()
        return WorkerStoppedError(f"its process has ended ({code}){last}")


class ContenderProcess(WorkerProcess):
    """A contender in a process of its own: see `worker.TrialServer`."""

    def __init__(self, contender: Contender) -> None:
        super().__init__(Handshake(contender.adapter, contender.blocked))
        self.contender = contender

    def open(self, config: RunConfig, timeout: float) -> None:
        """Open the contender's pool, if it has one."""
        self.ask(timeout, "open", config)

    def trial(self, trial: Trial, timeout: float) -> TrialReport:
        """Run a trial, at most `timeout` seconds."""
        report: TrialReport = self.ask(timeout, "trial", trial)
        return report

    def close(self) -> ConnectionCounts | None:
        """Close all connections; return how many there were, if the process knows."""
        counts: ConnectionCounts | None = self.ask(CLOSE_TIMEOUT, "close")
        return counts
