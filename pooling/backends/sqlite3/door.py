"""How SQLite's connections leave: one by one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pooling.core import forks

if TYPE_CHECKING:
    import sqlite3


class Door:
    """Lets connections out one by one.

    The last one of a file in WAL mode writes the log into the file, if it can have the file for
    itself. Two that close at the same moment are in each other's way, and then neither does it: who
    copies the file now, as a clone of a test database is made, finds it without its tables.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        forks.register(self)

    def close(self, connection: sqlite3.Connection) -> None:
        """Close a connection. Blocks while others are being closed."""
        with self._lock:
            connection.close()

    def after_fork_in_child(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()


DOOR = Door()
"""The process's, since pools with different options may have the same file."""
