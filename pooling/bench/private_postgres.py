"""A PostgreSQL of one's own: in a temporary folder, on a free local port, gone without a trace.

It exists so that `make bench` and `make test` work on a machine without any database server.
"""

from __future__ import annotations

import atexit
import importlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .binaries import Account, PostgresUnavailableError, find_programs, temporary_parent
from .watcher import Watcher, end_process

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

__all__ = ["PostgresUnavailableError", "PrivatePostgres", "ServerError"]

HOST = "127.0.0.1"
USER = "postgres"
START_TIMEOUT = 60.0

# Below the range from which systems take the ports of outgoing connections (32768 and up): a client
# that keeps knocking at a stopped server's port could otherwise be given that very port and reach
# itself.
PORTS = range(20_000, 32_000)

# "fast" ends the sessions with a word of goodbye, "smart" waits for them to leave, "immediate" is
# the nearest thing to a crash.
StopMode = Literal["smart", "fast", "immediate"]
STOP_SIGNALS: dict[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}

# Everything a server for an hour can do without, durability first.
CONFIGURATION = {
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "io_method": "sync",
    "jit": "off",
    "listen_addresses": HOST,
    "max_wal_senders": "0",
    "password_encryption": "scram-sha-256",
    # The password is random and 128 bits long. Thousands of rounds would protect a guessable one,
    # and would make every connection look more expensive than it is on a server that trusts its
    # clients.
    "scram_iterations": "1",
    "shared_buffers": "32MB",
    "synchronous_commit": "off",
    "timezone": "UTC",
    "wal_level": "minimal",
}


class ServerError(RuntimeError):
    """The private server did not do what it was told; the message quotes the end of its log."""


class PrivatePostgres:
    """A PostgreSQL 18 that belongs to this process.

    Use it as a context manager, or call `start` and `close`. The folder disappears with
    `close`, at the interpreter's exit, and, by way of a small watching process, even if this
    process is killed. A forked child may use the server but neither stops nor removes it. Not
    thread-safe.

    Sessions log in as a superuser with a random password: a superuser may run programs, so no other
    user of the machine is to get in.

    Args:
        max_connections: the server's limit, its few reserved connections included.
        configuration: further entries for `postgresql.conf`.

    Raises:
        PostgresUnavailableError: on `start`, if there is no server that could be started.
        ServerError: on `start` and `stop`, if the server fails or takes too long.
    """

    host = HOST
    user = USER

    def __init__(
        self, *, max_connections: int = 100, configuration: Mapping[str, str] | None = None
    ) -> None:
        self.password = secrets.token_hex(16)
        self.port = 0
        self.folder: Path | None = None
        self._configuration = {
            **CONFIGURATION,
            "max_connections": str(max_connections),
            **(configuration or {}),
        }
        self._owner = os.getpid()
        self._programs = Path()
        self._account: Account | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: Watcher | None = None
        self._frozen: list[int] = []

    def __repr__(self) -> str:
        state = f"pid {self._process.pid}, port {self.port}" if self._process else "stopped"
        return f"<{type(self).__name__} {state}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        if self._process is None:
            raise ServerError("the private PostgreSQL is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def url(self) -> str:
        return self.url_for("postgres")

    def url_for(self, database: str) -> str:
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def database_settings(
        self, engine: str = "django.db.backends.postgresql", name: str = "postgres"
    ) -> dict[str, Any]:
        """Return an entry for Django's `DATABASES`."""
        return {
            "ENGINE": engine,
            "NAME": name,
            "USER": self.user,
            "PASSWORD": self.password,
            "HOST": self.host,
            "PORT": str(self.port),
        }

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the server's log."""
        try:
            with (self._folder / "log").open(errors="replace") as log:
                return "".join(deque(log, maxlen=lines)).rstrip()
        except OSError as error:
            return f"(no log: {error})"

    def start(self) -> None:
        """Start the server and wait until it takes connections, at most 60 seconds.

        The first start makes the folder and the database cluster; later ones reuse both, and the
        port.
        """
        if self._process is not None:
            raise ServerError(f"the private PostgreSQL is already running: {self!r}")
        try:
            if self.folder is None:
                self._create()
            self._start()
        except BaseException:
            # Ctrl-C included: what has been begun is not left behind.
            self.close()
            raise

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and wait until it is gone; its data and its port stay for the next start.

        A server that does not obey within 20 seconds is killed, and ServerError says so.
        """
        process = self._process
        if process is None or os.getpid() != self._owner:
            return
        self.thaw()
        obeyed = end_process(process, STOP_SIGNALS[mode])
        self._process = None
        if self._watcher is not None:
            self._watcher.watch(None)
        if not obeyed:
            raise ServerError(
                f"PostgreSQL did not stop ({mode}) and was killed; its log:\n{self.log_tail()}"
            )

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start the server on the same port with the same data."""
        self.stop(mode)
        self.start()

    def freeze(self) -> None:
        """Suspend the server with all its sessions: it accepts connections and answers nothing."""
        psutil = importlib.import_module("psutil")  # a dependency of the server's wheel
        # The postmaster first, so that no child is born between the listing and its signal.
        os.kill(self.pid, signal.SIGSTOP)
        self._frozen = [self.pid]
        for child in psutil.Process(self.pid).children():
            os.kill(child.pid, signal.SIGSTOP)
            self._frozen.append(child.pid)

    def thaw(self) -> None:
        """Let a frozen server go on where it was suspended; do nothing if it is not frozen."""
        while self._frozen:
            with suppress(ProcessLookupError):  # killed while frozen
                os.kill(self._frozen.pop(), signal.SIGCONT)

    def close(self) -> None:
        """Stop the server if it runs and remove its folder. May be called twice."""
        if self.folder is None or os.getpid() != self._owner:
            return
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None
            if self._watcher is not None:
                self._watcher.dismiss()
                self._watcher = None
            atexit.unregister(self.close)

    # ---- the first start ---------------------------------------------------------------------

    @property
    def _folder(self) -> Path:
        if self.folder is None:
            raise ServerError("the private PostgreSQL has not been started")
        return self.folder

    def _create(self) -> None:
        if os.name != "posix":
            raise PostgresUnavailableError(
                "a private PostgreSQL can be started on Linux and macOS only; "
                "name a database of yours instead"
            )
        self._owner = os.getpid()
        self._account = Account.for_server()
        parent = temporary_parent(self._account)
        self.folder = Path(tempfile.mkdtemp(prefix="pooling-postgresql-", dir=parent))
        atexit.register(self.close)
        (self.folder / "log").touch(mode=0o600)
        self._watcher = Watcher(self.folder)
        self._programs = find_programs(self._account, self.folder)
        if self._account is not None:
            # Only to be passed through: what is in it says for itself who may enter.
            self.folder.chmod(0o711)
        for name in ("data", "sockets"):
            (self.folder / name).mkdir(mode=0o700)
            if self._account is not None:
                os.chown(self.folder / name, self._account.uid, self._account.gid)
        self._initialise()
        self.port = _free_port()

    def _initialise(self) -> None:
        # Handed over as a file, because other users can see command lines.
        password_file = self._folder / "data.password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if self._account is not None:
            os.chown(password_file, self._account.uid, self._account.gid)
        options: list[str | Path] = [
            *("--pgdata", self._folder / "data"),
            *("--username", self.user),
            *("--pwfile", password_file),
            *("--auth", "scram-sha-256"),
            *("--encoding", "UTF8", "--locale", "C"),
            *("--no-sync", "--no-data-checksums", "--no-instructions"),
        ]
        for name, value in self._configuration.items():
            options += ["-c", f"{name}={value}"]
        process = self._spawn("initdb", *options)
        try:
            code = process.wait(START_TIMEOUT)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_process(process, signal.SIGTERM)
            password_file.unlink()
        if code != 0:
            problem = f"failed ({code})" if code is not None else "took too long"
            raise ServerError(f"PostgreSQL's initdb {problem}; its output:\n{self.log_tail()}")

    # ---- every start -------------------------------------------------------------------------

    def _spawn(self, program: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        # libpq's variables must neither reach the server nor decide where it looks for its files.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        with (self._folder / "log").open("ab") as log:
            try:
                return subprocess.Popen(  # noqa: S603
                    [self._programs / program, *arguments],
                    cwd=self._folder,
                    env={**environment, "LC_ALL": "C"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # out of reach of the terminal's Ctrl-C
                    **(self._account.popen_arguments() if self._account else {}),
                )
            except OSError as error:
                raise ServerError(
                    f"{self._programs / program} could not be run: {error}"
                ) from error

    def _start(self) -> None:
        self._process = self._spawn(
            "postgres",
            *("-D", self._folder / "data"),
            *("-k", self._folder / "sockets"),
            *("-p", str(self.port)),
        )
        if self._watcher is not None:
            self._watcher.watch(self._process.pid)
        deadline = time.monotonic() + START_TIMEOUT
        while not self._is_ready():
            code = self._process.poll()
            if code is not None:
                self._process = None
                raise ServerError(f"PostgreSQL did not start ({code}); its log:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerError(
                    f"PostgreSQL was not ready within {START_TIMEOUT:g} s; "
                    f"its log:\n{self.log_tail()}"
                )
            time.sleep(0.01)

    def _is_ready(self) -> bool:
        """Read the server's own account of its state, as `pg_ctl --wait` does.

        The lock file holds the pid in its first line and the state in its eighth.
        """
        try:
            lines = (self._folder / "data" / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


def _free_port() -> int:
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
