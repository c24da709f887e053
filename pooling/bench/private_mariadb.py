"""A private MariaDB."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from pathlib import Path

from .environment import find_program, missing_programs
from .polling import wait_until
from .private_server import HOST, START_TIMEOUT, PrivateServer, ServerError

ABORTED = "[ERROR] Aborting"
PROGRAMS = ("mariadbd", "mariadb-install-db")

# A server for an hour needs no durability.
CONFIGURATION = {
    "bind_address": HOST,
    "character_set_server": "utf8mb4",
    "innodb_buffer_pool_size": "32M",
    "innodb_flush_log_at_trx_commit": "0",
}

# Ends the server when its input ends, with the process that started it, however that ends.
WATCHDOG_SCRIPT = """
folder=$1
shift
"$@" </dev/null >>"$folder/log" 2>&1 &
server=$!
read -r how
kill -CONT "$server"
if [ "$how" = stop ]; then kill -TERM "$server"; else kill -KILL "$server"; fi
wait "$server"
if [ -z "$how" ]; then rm -rf -- "$folder"; fi
"""


class MariaDBUnavailableError(RuntimeError):
    """There is no MariaDB here that could be started; the message says what to do about it."""


class PrivateMariaDB(PrivateServer):
    """A MariaDB that belongs to this process.

    Args:
        options: further options of the server.

    Raises:
        MariaDBUnavailableError: on `start`, if the server is not installed.
    """

    product = "MariaDB"
    engine = "django.db.backends.mysql"
    user = "pooling"

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options = {**CONFIGURATION, **options}

    def _make_folder(self) -> Path:
        if missing := missing_programs(PROGRAMS):
            raise MariaDBUnavailableError(f"a private MariaDB needs its server; {missing}")
        return Path(tempfile.mkdtemp(prefix="pooling-mariadb-"))

    @property
    def _environment(self) -> dict[str, str]:
        """With a folder for temporary files: a server that starts removes those of all others."""
        return {**os.environ, "TMPDIR": f"{self.folder}/temporary"}

    def _program(self) -> str:
        """Return the path of the server."""
        return f"{find_program('mariadbd')}"

    def _installer(self, folder: Path) -> list[str]:
        """Return the command line that makes the system tables, and an account `root`."""
        return [
            *(f"{find_program('mariadb-install-db')}", "--no-defaults"),
            *(f"--datadir={folder}/data", "--skip-test-db", *_account()),
            "--auth-root-authentication-method=normal",
        ]

    def _initialise(self, folder: Path) -> None:
        (folder / "temporary").mkdir()
        done = subprocess.run(  # noqa: S603
            self._installer(folder),
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT,
            check=False,
            env=self._environment,
        )
        if done.returncode:
            raise ServerError(f"MariaDB: mariadb-install-db failed: {done.stdout}{done.stderr}")
        commands = folder / "init.sql"
        commands.touch(mode=0o600)
        commands.write_text(
            f"CREATE USER IF NOT EXISTS '{self.user}'@'%' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO '{self.user}'@'%' WITH GRANT OPTION;\n"
            f"ALTER USER root@localhost IDENTIFIED BY '{self.password}';\n"
        )

    def launch(self, **options: object) -> None:
        """Start the server in its folder, with these options as well; wait until it answers."""
        given = {**self.options, **options}
        self._watchdog = subprocess.Popen(  # noqa: S603
            [
                *("/bin/sh", "-c", WATCHDOG_SCRIPT, "sh", f"{self.folder}"),
                *(self._program(), "--no-defaults", *_account()),
                *(f"--datadir={self.folder}/data", f"--init-file={self.folder}/init.sql"),
                *(f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid"),
                *(f"--port={self.port}", "--skip-name-resolve", "--skip-log-bin"),
                *(f"--{name.replace('_', '-')}={value}" for name, value in given.items()),
            ],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # out of reach of the terminal's Ctrl-C
            env=self._environment,
        )
        wait_until(lambda: self._answers() or ABORTED in self.log_tail(), START_TIMEOUT)
        if not self._answers():
            raise ServerError(f"MariaDB did not start. Its log:\n{self.log_tail()}")

    def _answers(self) -> bool:
        """Whether the server greets a client, which it does after it has read `init.sql`."""
        try:
            with socket.create_connection((HOST, self.port), timeout=1.0) as client:
                return bool(client.recv(1))
        except OSError:
            return False

    def stop(self, mode: str = "fast") -> None:
        """Stop the server, and wait until it is gone; "immediate" is the nearest to a crash."""
        self._end_watchdog("stop" if mode == "fast" else "kill")


def _account() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []
