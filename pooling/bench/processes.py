"""Contenders' processes: each answers over a pipe, and ends with the process that started it.

A contender cannot harm the others there, and each has its own driver.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from pooling.formatting import one_line

from .measurements import describe_error

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping
    from typing import Self

    from .adapters.base import PoolAdapter, RunConfig
    from .measurements import ConnectionCounts, Trial, TrialReport

START_TIMEOUT = 60.0
CLOSE_TIMEOUT = 15.0
END_TIMEOUT = 5.0
POLL_EVERY = 0.02
PROJECT = "POOLBENCH_SETTINGS"
"""The environment variable that names a project's settings, for a worker that does its work."""


class WorkerFailedError(RuntimeError):
    """A worker raised an error; it can be asked again."""


class WorkerStoppedError(WorkerFailedError):
    """A worker did not answer in time and was stopped, or its process has ended."""


# ---- the parent's side -----------------------------------------------------------------------


def start_python(
    code: str, *arguments: str, env: Mapping[str, str] = os.environ, **options: Any
) -> subprocess.Popen[bytes]:
    """Start Python code with this process's `sys.path`.

    The code has to call `end_with_parent`: its standard input is a pipe that breaks when this
    process ends. Ctrl-C at the terminal does not reach it.
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
        name: the class to work with, as `module:name`.
        blocked: modules that have to look as if they were not installed.
        project: the module of a project's settings, if the project's own work is done.
    """

    server = f"{__name__}:TrialServer"
    """The class whose methods answer, as `module:name`; it is made with `name`."""

    def __init__(self, name: str, blocked: tuple[str, ...] = (), project: str = "") -> None:
        self._arguments = self.server, name, *blocked
        self._environment = {**os.environ, PROJECT: project}
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
        # Not `-m`: what it sends has to come from a module that this side knows by the same name.
        self._process = start_python(
            f"from {__name__} import main; main()",
            *(str(theirs.fileno()), *self._arguments),
            env=self._environment,
            stderr=self._errors,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def ready(self) -> None:
        """Wait until it has started."""
        self._answer(START_TIMEOUT)

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

    def ask(
        self, timeout: float, verb: str, *arguments: Any, meanwhile: Callable[[], object] = bool
    ) -> Any:
        """Send a request and return the answer; call `meanwhile` every 20 ms while waiting for it.

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
        return self._answer(timeout, meanwhile)

    def _answer(self, timeout: float, meanwhile: Callable[[], object] = bool) -> Any:
        deadline = time.monotonic() + timeout
        try:
            while not self._channel.poll(min(POLL_EVERY, timeout)):
                if time.monotonic() >= deadline:
                    self.kill()
                    raise WorkerStoppedError(f"stopped: no answer within {timeout:g} s")
                meanwhile()
            error, answer = self._channel.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if error is not None:
            raise WorkerFailedError(error)
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


# ---- the child's side ------------------------------------------------------------------------


class TrialServer:
    """Runs the trials of one contender: an adapter to get connections, and a load that uses it."""

    def __init__(self, name: str) -> None:
        import django
        from django.conf import settings

        if project := os.environ.get(PROJECT):
            os.environ["DJANGO_SETTINGS_MODULE"] = project
        else:
            settings.configure(USE_TZ=True)
        django.setup()
        self._adapter_class: type[PoolAdapter] = find_class(name)
        self._adapter: Any = None
        self._load: Any = None

    def open(self, config: RunConfig) -> None:
        """Open the contender's pool, if it has one; as far as it can, without connections."""
        from .load import AsyncLoad, ThreadLoad

        if config.cpus:
            os.sched_setaffinity(0, config.cpus)
        self._adapter = self._adapter_class(config)
        load = AsyncLoad if self._adapter.is_async else ThreadLoad
        self._load = load(self._adapter, config.threads)
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
        if adapter is not None:
            adapter.clean_up()
            adapter.close()
        counts: ConnectionCounts | None = adapter and adapter.count and adapter.count.total()
        return counts


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


def serve(channel: Connection, new_server: Callable[[], Any]) -> None:
    """Make a server and let its methods answer requests until the other side hangs up.

    An answer is an error's description, or None, and a value.
    """
    server: Any = None
    verb, arguments = "", list[Any]()
    answer: tuple[str | None, Any]
    with suppress(EOFError):
        while True:
            try:
                if server is None:
                    server, answer = new_server(), (None, None)
                else:
                    answer = None, getattr(server, verb)(*arguments)
            except Exception as error:
                answer = describe_error(error), None
            channel.send(answer)
            verb, *arguments = channel.recv()


def main() -> None:
    """Serve until the parent hangs up."""
    end_with_parent()
    descriptor, server, name, *blocked = sys.argv[1:]
    for module in blocked:
        sys.modules[module] = None  # type: ignore[assignment]
    logging.disable(logging.WARNING)  # writing takes time, and is read by no one
    serve(Connection(int(descriptor)), lambda: find_class(server)(name))
    # What a contender has left open must not keep the process.
    os._exit(0)
