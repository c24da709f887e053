"""A private MariaDB: in a temporary folder, on a free local port, ended with its process."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .environment import find_program, missing_programs
from .polling import wait_until
from .private_postgres import END_TIMEOUT, HOST, START_TIMEOUT, ServerError, free_port
from .processes import end_process

if TYPE_CHECKING:
    from typing import Self

USER = "pooling"
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


class PrivateMariaDB:
    """A MariaDB that belongs to this process. Use it as a context manager.

    The user may do everything, and has a random password. Not thread-safe.

    Args:
        options: further options of the server.

    Raises:
        MariaDBUnavailableError: on `start`, if the server is not installed.
        ServerError: on `start`, if the server fails or takes more than 60 seconds.
    """

    host = HOST
    user = USER

    def __init__(self, **options: object) -> None:
        self.password = secrets.token_hex(16)
        self.port = 0
        self.folder: Path | None = None
        self.options = {**CONFIGURATION, **options}
        self._watchdog: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def database_settings(
        self, engine: str = "django.db.backends.mysql", name: str = ""
    ) -> dict[str, Any]:
        """Return an entry for Django's `DATABASES`."""
        login = {"NAME": name, "USER": self.user, "PASSWORD": self.password}
        return {"ENGINE": engine, **login, "HOST": self.host, "PORT": str(self.port)}

    def start(self) -> None:
        """Make the folder and the system tables, and start the server."""
        if missing := missing_programs(PROGRAMS):
            raise MariaDBUnavailableError(f"a private MariaDB needs its server; {missing}")
        self._owner = os.getpid()
        self.folder = Path(tempfile.mkdtemp(prefix="pooling-mariadb-"))
        atexit.register(self.close)
        try:
            self.port = free_port()
            self._initialise(self.folder)
            self.launch()
        except BaseException:
            # Ctrl-C included: what has been begun is not left behind.
            self.close()
            raise

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
            f"CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
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
        wait_until(lambda: self._answers() or ABORTED in self._log(), START_TIMEOUT)
        if not self._answers():
            raise ServerError(f"MariaDB did not start. Its log:\n{self._log()}")

    def _answers(self) -> bool:
        """Whether the server greets a client, which it does after it has read `init.sql`."""
        try:
            with socket.create_connection((HOST, self.port), timeout=1.0) as client:
                return bool(client.recv(1))
        except OSError:
            return False

    def _log(self) -> str:
        """Return the end of the server's log."""
        with suppress(OSError):
            return Path(f"{self.folder}/log").read_text(errors="replace")[-2000:]
        return "(no log)"

    def stop(self, how: str = "stop") -> None:
        """Stop the server, and wait until it is gone; "kill" is the nearest thing to a crash."""
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None and watchdog.stdin is not None:
            with suppress(BrokenPipeError):  # it was killed
                watchdog.stdin.write(f"{how}\n".encode())
            end_process(watchdog, None, END_TIMEOUT)

    def close(self) -> None:
        """Stop the server and remove its folder. May be called twice."""
        if self.folder is None or os.getpid() != self._owner:
            return
        self.stop("kill")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None
        atexit.unregister(self.close)


def _account() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []
