"""How SQLite's connections leave: one by one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pooling.core import forks

if TYPE_CHECKING:
    import sqlite3

PATIENCE = 5.0
"""Seconds that a connection waits for its turn to leave."""


class Door:
    """Lets connections out one by one.

    The last one of a file in WAL mode writes the log into the file, if it can have the file for
    itself. Two that close at the same moment are in each other's way, and then neither does it: who
    copies the file now, as a clone of a test database is made, finds it without its tables.

    So connections are closed under a lock, which is for nothing else. One that hangs there, or was
    interrupted, holds the others up once: who has waited for `patience` seconds leaves all the
    same, and those behind it have another lock.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        forks.register(self)

    def close(self, connection: sqlite3.Connection) -> None:
        """Close a connection. Blocks while another one is being closed, in bounded time."""
        lock = self._lock
        has_turn = lock.acquire(timeout=self._patience)
        try:
            if not has_turn and self._lock is lock:
                self._lock = threading.Lock()
            connection.close()
        finally:
            if has_turn:
                lock.release()

    def after_fork_in_child(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()


DOOR = Door()
"""The process's, since pools with different options may have the same file."""
