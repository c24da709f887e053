"""A fake PgBouncer, for answers of its console that the real one gives only with other settings.

It does the two things by which one is known: it replaces the server's process id in the key for
cancelling by a number of its own, and answers to the database name `pgbouncer` with a console.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Any, Self

PROTOCOL = 196608
SSL_REQUEST = 80877103
GSS_REQUEST = 80877104


class Bouncer:
    """A proxy for one server; a context manager.

    Args:
        server: where to connect: the arguments of `socket.connect`, by its family.
        databases: the answer to SHOW DATABASES: pairs of a name and a mode, which may be None.
        mode: what SHOW CONFIG says.
        prepared: what it says of `max_prepared_statements`, which PgBouncer has since 1.21.
        console: whether the console lets anybody in.
    """

    def __init__(
        self,
        server: tuple[socket.AddressFamily, Any],
        *,
        databases: tuple[tuple[str, str | None], ...] = (),
        mode: str = "session",
        prepared: int | None = None,
        console: bool = True,
    ) -> None:
        self.server = server
        self.databases = databases
        self.config = [("pool_mode", mode)]
        if prepared is not None:
            self.config.append(("max_prepared_statements", str(prepared)))
        self.console = console
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self.listener, *self.open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(client)
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), client:
            while True:
                startup = _startup(client)
                if startup[:4] not in (
                    struct.pack("!I", SSL_REQUEST),
                    struct.pack("!I", GSS_REQUEST),
                ):
                    break
                client.sendall(b"N")
            words = startup[4:].split(b"\0")
            names = dict(zip(words[::2], words[1::2], strict=False))
            if names.get(b"database") == b"pgbouncer":
                self._be_console(client)
            else:
                self._pass_on(client, startup)

    def _pass_on(self, client: socket.socket, startup: bytes) -> None:
        family, address = self.server
        upstream = socket.socket(family)
        self.open.append(upstream)
        with upstream:
            upstream.connect(address)
            upstream.sendall(struct.pack("!I", len(startup) + 4) + startup)
            threading.Thread(target=_copy, args=[client, upstream], daemon=True).start()
            while True:
                kind, body = _message(upstream)
                if kind == b"K":
                    body = struct.pack("!II", 4_000_000_007 % 2**31, 1)
                client.sendall(_packed(kind, body))

    def _be_console(self, client: socket.socket) -> None:
        if not self.console:
            client.sendall(_packed(b"E", b"SFATAL\0C08P01\0Mnot allowed\0\0"))
            return
        client.sendall(_packed(b"R", struct.pack("!I", 0)))
        for name, value in (
            (b"server_version", b"1.25.0/bouncer"),
            (b"client_encoding", b"UTF8"),
            (b"DateStyle", b"ISO"),
            (b"standard_conforming_strings", b"on"),
            (b"integer_datetimes", b"on"),
        ):
            client.sendall(_packed(b"S", name + b"\0" + value + b"\0"))
        client.sendall(_packed(b"Z", b"I"))
        while True:
            kind, body = _message(client)
            if kind != b"Q":
                return
            statement = body.rstrip(b"\0").decode().strip()
            if statement == "SHOW DATABASES":
                client.sendall(_rows(("name", "pool_mode"), self.databases))
            elif statement == "SHOW CONFIG":
                client.sendall(_rows(("key", "value"), self.config))
            else:
                client.sendall(_packed(b"E", b"SERROR\0C42601\0Minvalid command\0\0"))
            client.sendall(_packed(b"Z", b"I"))


def _read(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = source.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _startup(client: socket.socket) -> bytes:
    (length,) = struct.unpack("!I", _read(client, 4))
    return _read(client, length - 4)


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    kind = _read(source, 1)
    (length,) = struct.unpack("!I", _read(source, 4))
    return kind, _read(source, length - 4)


def _packed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _rows(names: tuple[str, ...], rows: Any) -> bytes:
    described = b"".join(
        name.encode() + b"\0" + struct.pack("!IHIhIH", 0, 0, 25, -1, 0xFFFFFFFF, 0)
        for name in names
    )
    answer = _packed(b"T", struct.pack("!H", len(names)) + described)
    for row in rows:
        cells = b"".join(
            struct.pack("!i", -1)
            if cell is None
            else struct.pack("!i", len(cell.encode())) + cell.encode()
            for cell in row
        )
        answer += _packed(b"D", struct.pack("!H", len(row)) + cells)
    return answer + _packed(b"C", b"SHOW\0")


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
