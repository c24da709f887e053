"""What really goes over the wire: a TCP relay that writes everything down."""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Self

PATIENCE = 20.0
CHUNK = 65536


class Piece(NamedTuple):
    """Bytes that came from one side."""

    from_client: bool
    data: bytes


class Wire:
    """A relay to a server, in a thread of its own; bytes are written down before they go on.

    So when a client has read an answer, its question and that answer have been written down.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = host, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()[:2]
        self._awake, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._pieces: list[Piece] = []
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._awake, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waker.send(b"x")
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._selector.close()
        for each in (*self._sockets, self._listener, self._awake, self._waker):
            each.close()

    def mark(self) -> int:
        """Return where we are, for `sent` and `round_trips`."""
        return len(self._pieces)

    def sent(self, since: int = 0) -> bytes:
        """Return what clients have sent since a mark."""
        return b"".join(piece.data for piece in self._pieces[since:] if piece.from_client)

    def round_trips(self, since: int = 0) -> int:
        """Return how often a client has asked and the server has answered since a mark.

        With one client at a time: several answers to what was sent in one go are one round trip.
        """
        asked = [piece.from_client for piece in self._pieces[since:]]
        return sum(before and not after for before, after in itertools.pairwise(asked))

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._awake:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._pass_on(key)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(self._server, PATIENCE)
        for end, other in ((client, server), (server, client)):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(PATIENCE)
            self._sockets.append(end)
            self._selector.register(end, selectors.EVENT_READ, (end is client, other))

    def _pass_on(self, key: selectors.SelectorKey) -> None:
        from_client, other = key.data
        end: socket.socket = key.fileobj  # type: ignore[assignment]
        data = b""
        with contextlib.suppress(OSError):
            data = end.recv(CHUNK)
        if not data:
            self._selector.unregister(end)
            with contextlib.suppress(OSError):
                other.shutdown(socket.SHUT_WR)
            return
        self._pieces.append(Piece(from_client, data))
        with contextlib.suppress(OSError):
            other.sendall(data)
