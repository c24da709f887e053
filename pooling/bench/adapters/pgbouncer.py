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
from pooling.bench.private_postgres import (
    HOST,
    account_for_server,
    free_port,
    temporary_parent,
)
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

    Args:
        entry: the database behind it, as an entry of `DATABASES`.
        size: connections to the server.
        clients: connections of the contender.
    """

    def __init__(self, entry: Mapping[str, Any], size: int, clients: int) -> None:
        account = account_for_server()
        self._folder = Path(
            tempfile.mkdtemp(prefix="poolbench-pgbouncer-", dir=temporary_parent(account))
        )
        port = free_port()
        self.address = {"HOST": HOST, "PORT": str(port), "PASSWORD": ""}
        settings = self._folder / "pgbouncer.ini"
        settings.touch(mode=0o600)
        quoted = str(entry.get("PASSWORD", "")).replace("'", "''")
        settings.write_text(
            CONFIGURATION.format(
                host=entry.get("HOST") or "/var/run/postgresql",
                server_port=entry.get("PORT") or 5432,
                user=entry.get("USER") or "postgres",
                password=f"'{quoted}'",
                listen=HOST,
                port=port,
                size=size,
                clients=clients + 10,
            )
        )
        if account:
            for path in (self._folder, settings):
                os.chown(path, account["user"], account["group"])
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", SCRIPT, "sh", find_program("pgbouncer") or "pgbouncer", settings],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
            **account,
        )
        if not wait_until(lambda: _listens(port)):
            self._output.seek(0)
            said = self._output.read().decode(errors="replace").strip()[-300:]
            self.close()
            raise BouncerError(f"pgbouncer does not answer on port {port}: {said}")

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
