"""A PgBouncer of its own for one contender, in transaction mode, on a free local port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pooling.bench.environment import find_program
from pooling.bench.polling import wait_until
from pooling.bench.private_postgres import account_for_server, temporary_parent
from pooling.bench.private_server import HOST, free_port
from pooling.bench.processes import end_process

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIGURATION = """
[databases]
* = host={host} port={server_port} user={user} password={password}
[pgbouncer]
listen_addr = {listen}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = {clients}
ignore_startup_parameters = extra_float_digits,options
log_connections = 0
log_disconnections = 0
"""
# Ends and clears away with its standard input, so also when this process is killed.
SCRIPT = '"$1" -q "$2" & read -r _; kill $!; wait; rm -rf -- "${2%/*}"'


class BouncerError(RuntimeError):
    """PgBouncer does not work here; the message quotes the end of its output."""


class PrivatePgBouncer:
    """A PgBouncer that belongs to this process; it does not run as root, so root uses `nobody`.

    Anybody who may connect to the port uses it, its console included, without a password.

    Args:
        entry: the database behind it, as an entry of `DATABASES`.
        size: connections to the server.
        clients: connections of the contender.
        settings: further settings of `[pgbouncer]`, which override those of `CONFIGURATION`.

    Raises:
        BouncerError: it does not start.
    """

    def __init__(
        self,
        entry: Mapping[str, Any],
        size: int,
        clients: int,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self._account = account_for_server()
        self._entry = entry
        self._sizes = {"size": size, "clients": clients + 10}
        self.settings = dict(settings or {})
        self.port = free_port()
        self.address = {"HOST": HOST, "PORT": str(self.port), "PASSWORD": ""}
        self.start()

    def start(self) -> None:
        """Make its folder and start it; after a `close` on the same port."""
        self._folder = Path(
            tempfile.mkdtemp(prefix="poolbench-pgbouncer-", dir=temporary_parent(self._account))
        )
        self.write_settings()
        if self._account:
            for path in (self._folder, self._ini):
                os.chown(path, self._account["user"], self._account["group"])
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        program = find_program("pgbouncer") or "pgbouncer"
        self._process = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", SCRIPT, "sh", program, self._ini],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
            **self._account,
        )
        if not wait_until(lambda: _listens(self.port)):
            self._output.seek(0)
            said = self._output.read().decode(errors="replace").strip()[-300:]
            self.close()
            raise BouncerError(f"pgbouncer does not answer on port {self.port}: {said}")

    def write_settings(self) -> None:
        """Write its settings; one that runs reads them when it is told to."""
        self._ini.touch(mode=0o600)
        entry, quoted = self._entry, str(self._entry.get("PASSWORD", "")).replace("'", "''")
        text = CONFIGURATION.format(
            host=entry.get("HOST") or "/var/run/postgresql",
            server_port=entry.get("PORT") or 5432,
            user=entry.get("USER") or "postgres",
            password=f"'{quoted}'",
            listen=HOST,
            port=self.port,
            **self._sizes,
        )
        further = "".join(f"{name} = {value}\n" for name, value in self.settings.items())
        self._ini.write_text(text + further)

    @property
    def _ini(self) -> Path:
        return self._folder / "pgbouncer.ini"

    def close(self) -> None:
        """End it and remove its folder."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        end_process(self._process, None, 5.0)
        self._output.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False
