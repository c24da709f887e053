"""A private database server: in a temporary folder, on a free local port, removed without a trace.

It exists so that `make bench` and `make test` work on a machine without any database server.
"""

from __future__ import annotations

import atexit
import os
import random
import secrets
import shutil
import socket
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .processes import end_process

if TYPE_CHECKING:
    import subprocess
    from typing import Self

HOST = "127.0.0.1"
START_TIMEOUT = 60.0
END_TIMEOUT = 20.0

# Below the range from which systems take the ports of outgoing connections (32768 and up): a client
# that keeps connecting to a stopped server's port could otherwise be given that very port and
# reach itself.
PORTS = range(20_000, 32_000)


class ServerError(RuntimeError):
    """The private server did not do what it was told; the message quotes the end of its log."""


class PrivateServer(ABC):
    """A server that belongs to this process.

    Use it as a context manager, or call `start` and `close`. A small watchdog process stops the
    server and removes its folder: on `close`, at the interpreter's exit, and when this process is
    killed. A forked child may use the server but does not remove it. Not thread-safe.

    Its user may do everything and has a random password, so no other user of the machine may log
    in.
    """

    product: ClassVar[str]
    engine: ClassVar[str]
    user: ClassVar[str]
    database: ClassVar[str] = ""
    """To connect to before others are made."""
    host: ClassVar[str] = HOST

    def __init__(self) -> None:
        self.password = secrets.token_hex(16)
        self.port = 0
        self.folder: Path | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} in {self.folder}, port {self.port}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def database_settings(
        self, engine: str | None = None, name: str | None = None
    ) -> dict[str, Any]:
        """Return an entry for Django's `DATABASES`, of the stock engine if no other is given."""
        return {
            "ENGINE": engine or self.engine,
            "NAME": self.database if name is None else name,
            "USER": self.user,
            "PASSWORD": self.password,
            "HOST": self.host,
            "PORT": str(self.port),
        }

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the server's log."""
        try:
            with Path(f"{self.folder}/log").open(errors="replace") as log:
                return "".join(deque(log, maxlen=lines)).rstrip()
        except OSError as error:
            return f"(no log: {error})"

    def start(self) -> None:
        """Make the folder and what is in it, and start the server.

        Raises:
            ServerError: the server fails, takes more than 60 seconds, or is already running.
        """
        if self.folder is not None:
            raise ServerError(f"the private {self.product} is already running: {self!r}")
        self._owner = os.getpid()
        try:
            self.folder = self._make_folder()
            atexit.register(self.close)
            self.port = free_port()
            self._initialise(self.folder)
            self.launch()
        except BaseException:
            # Ctrl-C included: what has been begun is not left behind.
            self.close()
            raise

    @abstractmethod
    def _make_folder(self) -> Path:
        """Return a new folder."""

    @abstractmethod
    def _initialise(self, folder: Path) -> None:
        """Make what the server needs in its folder."""

    @abstractmethod
    def launch(self) -> None:
        """Start the server in its folder and wait until it takes connections."""

    def close(self) -> None:
        """Stop the server if it runs and remove its folder. May be called twice."""
        if self.folder is None or os.getpid() != self._owner:
            return
        self._end_watchdog("close")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None
        atexit.unregister(self.close)

    def _end_watchdog(self, message: str) -> None:
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None and watchdog.stdin is not None:
            with suppress(BrokenPipeError):  # it was killed
                watchdog.stdin.write(f"{message}\n".encode())
            end_process(watchdog, None, END_TIMEOUT)


def free_port() -> int:
    """Return a port on which nothing listens, outside the range of outgoing connections."""
    for port in random.sample(PORTS, k=50):
        with socket.socket() as candidate:
            # As the server does it, lest a port that is merely in TIME_WAIT is passed over.
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ServerError(f"50 ports tried on {HOST}, none of them free")
