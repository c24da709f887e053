"""Database files: their paths, and the logs that a replaced file leaves behind.

SQLite finds the write-ahead log of a database by its name, `NAME-wal`, with an index beside it,
`NAME-shm`. A connection in WAL mode keeps both open. When another file takes the database's place
meanwhile, the next connection would apply the old log to the new file, or take the old index for
the new file's, and either corrupts it. Without a pool no connection is open between two requests,
so that there is no log to find.

So before the process opens a database it removes the log that its own connections to the former
file have open. They go on with the files they have, which have no name any more, and SQLite does
not delete by name what a connection to a moved database has in use.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from pooling.core import forks
from pooling.core.threads import register_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be replaced
    fcntl = None  # type: ignore[assignment]

LOCK_TIMEOUT = 1.0
"""Seconds to wait for another process that removes such files."""
LOCK_PAUSE = 0.005
"""Seconds between two attempts to get its lock."""

IN_MEMORY = (":memory:", "mode=memory", "vfs=memdb")
"""What the URI of a database in memory contains."""

FileId = tuple[int, int]
"""Device and inode: what tells a file from one that replaces it."""


def is_in_memory(name: Any) -> bool:
    """Tell whether `NAME` means a database in memory."""
    name = str(name)
    return name == ":memory:" or (
        name.startswith("file:") and any(mark in name for mark in IN_MEMORY)
    )


def absolute_name(name: Any) -> Any:
    """Return `NAME` with the current directory filled in; as it is if it needs none."""
    if is_in_memory(name):
        return name
    text: str = os.fspath(name)
    try:
        if not text.startswith("file:"):
            return name if os.path.isabs(text) else os.path.abspath(text)  # noqa: PTH100, PTH117
        path, query = _split_uri(text)
        if path.startswith("/"):
            return name
        return f"file:{quote(os.path.abspath(unquote(path)))}{query}"  # noqa: PTH100
    except FileNotFoundError:  # the current directory is gone: let SQLite say so
        return name


def path_of(name: Any) -> str:
    """Return the path of the file that an absolute `NAME` means."""
    text: str = os.fspath(name)
    return unquote(_split_uri(text)[0]) if text.startswith("file:") else text


def _split_uri(uri: str) -> tuple[str, str]:
    """Return the path of a URI without its authority, as it is quoted, and the rest behind it."""
    path = uri.removeprefix("file:")
    end = min((found for mark in "?#" if (found := path.find(mark)) >= 0), default=len(path))
    path, query = path[:end], path[end:]
    if path.startswith("//"):
        path = path[path.find("/", 2) :] if "/" in path[2:] else ""
    return path, query


def file_id(path: str) -> FileId | None:
    """Return the identity of the file at `path`, symbolic links followed; None without a file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a third of the time of Path.stat
    except OSError:
        return None
    return status.st_dev, status.st_ino


class OpenFile:
    """The database file of one open connection, with its log.

    Attributes:
        path: the path with symbolic links resolved, next to which SQLite has the log.
        file: the identity of the file that the connection has open.
        logs: the identities of its `-wal` and `-shm`, by path; none without WAL mode.
    """

    __slots__ = ("__weakref__", "file", "logs", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = file_id(path)
        self.logs: dict[str, FileId] = {}
        self.find_logs()

    def find_logs(self) -> None:
        """Note which files are the log. Whatever has its name is, unless the database has moved."""
        if self.is_in_place():
            names = (f"{self.path}-wal", f"{self.path}-shm")  # in the order of their removal
            self.logs = {name: found for name in names if (found := file_id(name)) is not None}

    def is_in_place(self) -> bool:
        """Tell whether the file is still the one at its path."""
        return self.file is not None and file_id(self.path) == self.file


class OpenFiles:
    """The database files that this process has open through pools.

    They are held weakly: identities are used again, so one must not outlive its connection here.
    """

    def __init__(self) -> None:
        self._start_over()
        forks.register(self)
        register_lock(self)

    def _start_over(self) -> None:
        self._lock = threading.RLock()  # a signal handler may use the database, too
        self._files: weakref.WeakSet[OpenFile] = weakref.WeakSet()

    def add(self, file: OpenFile) -> None:
        """Register the file of a new connection."""
        with self._lock:
            self._files.add(file)

    def remove(self, file: OpenFile) -> bool:
        """Forget the file of a connection that is about to be closed.

        Returns:
            Whether the file was replaced or deleted; its log has been removed then.
        """
        has_moved = bool(file.logs) and not file.is_in_place()
        if has_moved:
            _remove_logs([file])
        with self._lock:
            self._files.discard(file)
        return has_moved

    def prepare_to_open(self, path: str) -> None:
        """Remove the log of a former file at `path`, as far as connections here have it open.

        Blocks while another process does the same, in bounded time.
        """
        with self._lock:
            files = list(self._files)
        if files:
            path = os.path.realpath(path)
            moved = [
                file for file in files if file.path == path and file.logs and not file.is_in_place()
            ]
            if moved:
                _remove_logs(moved)

    def after_fork_in_child(self) -> None:
        """Forget the parent's connections, and take a new lock."""
        self._start_over()


OPEN_FILES = OpenFiles()
"""The process's, since several pools may have the same file."""


def _remove_logs(files: list[OpenFile]) -> None:
    """Remove the logs of files that were replaced, where they still have their names.

    Another process may do the same at this moment and open the new file then, whose log must not
    be removed in its stead: looking and removing are one step under a lock.
    """
    with _lock_of_directory(os.path.dirname(files[0].path)):  # noqa: PTH120
        for file in files:
            for path, log in file.logs.items():
                if file_id(path) == log:
                    with contextlib.suppress(OSError):
                        os.unlink(path)  # noqa: PTH108


@contextlib.contextmanager
def _lock_of_directory(directory: str) -> Iterator[None]:
    """Hold the lock of a directory, or none where it cannot be had in `LOCK_TIMEOUT` seconds.

    Not of the database: to close a file ends all locks that SQLite has on it in this process.
    """
    descriptor = None
    try:
        with contextlib.suppress(OSError):
            descriptor = os.open(directory, os.O_RDONLY)
            _try_lock(descriptor)
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child forked meanwhile has it open, too
            os.close(descriptor)


def _try_lock(descriptor: int) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return
            time.sleep(LOCK_PAUSE)
        else:
            return
