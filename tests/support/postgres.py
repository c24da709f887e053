"""A private PostgreSQL that tests stop, start again, and freeze."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal

from pooling.bench import private_postgres

from .freezing import resume, suspend

StopMode = Literal["smart", "fast", "immediate"]
"""Wait for the sessions to end, end them with an error message, or the nearest thing to a crash."""

STOP_TIMEOUT = 20


class PrivatePostgres(private_postgres.PrivatePostgres):
    """A private PostgreSQL under the control of a test."""

    _frozen: tuple[int, ...] = ()

    @property
    def url(self) -> str:
        return self.url_for("postgres")

    def url_for(self, database: str) -> str:
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return int(Path(f"{self.folder}/data/postmaster.pid").read_text().split()[0])

    @property
    def is_running(self) -> bool:
        return Path(f"{self.folder}/data/postmaster.pid").exists()

    def start(self) -> None:
        """Start the server; after a `stop` on the same port with the same data."""
        if self.folder is None or self.is_running:
            super().start()
        else:
            self.launch()

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and wait until it is gone; its data and its port stay for the next start.

        ServerError says so if it does not obey within 20 seconds.
        """
        self.thaw()
        if self.is_running:
            wait = ("--wait", "--timeout", str(STOP_TIMEOUT))
            self.run("pg_ctl", "stop", "--pgdata", f"{self.folder}/data", "--mode", mode, *wait)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start the server on the same port with the same data."""
        self.stop(mode)
        self.start()

    def freeze(self) -> None:
        """Suspend the server with all its sessions: it accepts connections and answers nothing."""
        import psutil  # a dependency of the server's wheel

        # The postmaster first, so that no child is born between the listing and its signal.
        self._frozen = (self.pid,)
        suspend(self.pid)
        for child in psutil.Process(self.pid).children():
            self._frozen += (child.pid,)
            with suppress(ProcessLookupError, FileNotFoundError):  # ended since the listing
                suspend(child.pid)

    def thaw(self) -> None:
        """Let a frozen server go on where it was suspended; do nothing if it is not frozen."""
        frozen, self._frozen = self._frozen, ()
        for pid in reversed(frozen):
            resume(pid)

    def close(self) -> None:
        self.thaw()
        super().close()
