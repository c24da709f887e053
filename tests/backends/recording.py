"""A TCP relay in front of a server, which writes down what each client says."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from tests.backends.databases import PATIENCE

if TYPE_CHECKING:
    from typing import Self


class RecordingRelay:
    """A relay on a port of its own, as a context manager.

    What has been said is written down before it is forwarded: whoever has an answer can find the
    question here.
    """

    host = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self._server = host, port
        self._said: list[bytearray] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((self.host, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def said(self) -> list[bytes]:
        """Return what came from each client so far, in the order in which they connected."""
        return [bytes(each) for each in self._said]

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *args: object) -> None:
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _start(self, function: object, *args: object) -> None:
        thread = threading.Thread(target=function, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server, PATIENCE)
                server.settimeout(None)
                self._sockets += (client, server)
                self._said.append(bytearray())
                self._start(self._forward, client, server, self._said[-1])
                self._start(self._forward, server, client, bytearray())

    def _forward(self, source: socket.socket, target: socket.socket, record: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                record += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
