"""PostgreSQL servers in trouble: standbys that take over, full ones, and those that are slow."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

from tests.support.postgres import PrivatePostgres
from tests.support.servers import driver, execute

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 30.0

SSL_REQUEST = struct.pack("!ii", 8, 80877103)

REPLICATION = {"wal_level": "replica", "max_wal_senders": "4", "synchronous_commit": "on"}
"""What a primary needs; the private server does without. What is committed is sent at once."""


class Standby(PrivatePostgres):
    """A hot standby: it follows `primary`, and answers queries but takes no writes.

    Args:
        primary: a server made with the configuration `REPLICATION`, and stopped: the standby begins
            as a copy of its files.
    """

    def __init__(self, primary: PrivatePostgres) -> None:
        super().__init__(configuration=REPLICATION)
        self._primary = primary
        self.password = primary.password

    def initialise(self) -> None:
        """Copy the primary's cluster instead of making one."""
        assert self.folder is not None
        primary, data = self._primary, self.folder / "data"
        assert primary.folder is not None
        assert not primary.is_running
        shutil.copytree(primary.folder / "data", data, dirs_exist_ok=True)
        conninfo = f"host={primary.host} port={primary.port} user={primary.user}"
        (data / "standby.signal").touch()
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.write(
                f"unix_socket_directories = '{self.folder}'\n"
                f"primary_conninfo = '{conninfo} password={primary.password}'\n"
                # What it has received is enough for a promotion: no waiting for the primary.
                "wal_retrieve_retry_interval = '100ms'\n"
            )
        for path in (data, *data.rglob("*")):
            self.hand_over(path)

    def promote(self) -> None:
        """Let it take over: from now on it takes writes, also in the sessions there are."""
        assert execute(self.url, "SELECT pg_promote(true, 30)") == [(True,)]

    def wait_for(self, primary: PrivatePostgres) -> None:
        """Wait until everything the primary has written has arrived here."""
        [(position,)] = execute(primary.url, "SELECT pg_current_wal_flush_lsn()::text")
        behind = f"SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn"
        deadline = time.monotonic() + PATIENCE
        while execute(self.url, behind) != [(True,)]:
            assert time.monotonic() < deadline, self.log_tail()
            time.sleep(0.02)


@contextlib.contextmanager
def primary_and_standby() -> Iterator[tuple[PrivatePostgres, Standby]]:
    """Start a server and one that follows it."""
    with PrivatePostgres(configuration=REPLICATION) as primary:
        primary.stop()
        with Standby(primary) as standby:
            primary.start()
            yield primary, standby


def fill(server: PrivatePostgres, leave: int) -> list[object]:
    """Take all connections of a server but `leave`; close what is returned to free them again."""
    module = driver()
    held: list[object] = []
    while True:
        try:
            held.append(module.connect(server.url, connect_timeout=10))
        except module.OperationalError:
            break
    for _ in range(leave):
        held.pop().close()  # type: ignore[attr-defined]
    return held


@contextlib.contextmanager
def starting_up(server: PrivatePostgres) -> Iterator[None]:
    """Start a server, stopped and made for `REPLICATION`, and keep it "starting up" meanwhile.

    It recovers from an archive that takes its time: its first question there is answered, with
    "nothing", at the end of the context.
    """
    assert server.folder is not None
    data = server.folder / "data"
    answer = data / "answer"
    (data / "recovery.signal").touch()
    wait = f"for _ in $(seq {PATIENCE * 20:.0f}); do [ -e {answer} ] && exit 1; sleep 0.05; done"
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.write(f"restore_command = '{wait}; exit 1'\n")
    starting = threading.Thread(target=server.start)
    starting.start()
    try:
        yield
    finally:
        answer.touch()
        starting.join(PATIENCE * 2)


@contextlib.contextmanager
def error_server(sqlstate: str, words: str) -> Iterator[tuple[str, int]]:
    """Answer whoever connects with an error in PostgreSQL's protocol; yield host and port."""
    fields = b"".join(
        kind + text.encode() + b"\0"
        for kind, text in ((b"S", "FATAL"), (b"V", "FATAL"), (b"C", sqlstate), (b"M", words))
    )
    error = b"E" + struct.pack("!i", len(fields) + 5) + fields + b"\0"

    def answer(client: socket.socket) -> None:
        client.settimeout(PATIENCE)
        while len(greeting := client.recv(4096)) == len(SSL_REQUEST):
            client.sendall(b"N")  # no TLS, no GSS: both ask in the same few bytes
        if greeting:
            client.sendall(error)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                with client, contextlib.suppress(OSError):
                    answer(client)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)
