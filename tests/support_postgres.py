"""A private PostgreSQL that tests stop, start again, and freeze."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Literal

from pooling.bench import private_postgres
from pooling.bench.private_postgres import END_TIMEOUT, ServerError
from pooling.bench.processes import end_process

# "fast" ends the sessions with an error message, "smart" waits for them to end, "immediate" is the
# nearest thing to a crash.
StopMode = Literal["smart", "fast", "immediate"]
STOP_SIGNALS: dict[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


class PrivatePostgres(private_postgres.PrivatePostgres):
    """A private PostgreSQL under the control of a test."""

    _frozen: tuple[int, ...] = ()

    @property
    def is_running(self) -> bool:
        return not self.process_ended()

    def start(self) -> None:
        """Start the server; after a `stop` on the same port with the same data."""
        if self.folder is None or self.process is not None:
            super().start()
            return
        try:
            self.launch()
        except BaseException:
            self.close()
            raise

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and wait until it is gone; its data and its port stay for the next start.

        A server that does not obey within 20 seconds is killed, and ServerError says so.
        """
        if self.process is None:
            return
        self.thaw()
        obeyed = end_process(self.process, STOP_SIGNALS[mode], END_TIMEOUT)
        self.process = None
        self.tell_watchdog("")
        if not obeyed:
            raise ServerError(f"PostgreSQL did not stop ({mode}); its log:\n{self.log_tail()}")

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start the server on the same port with the same data."""
        self.stop(mode)
        self.start()

    def freeze(self) -> None:
        """Suspend the server with all its sessions: it accepts connections and answers nothing."""
        import psutil  # a dependency of the server's wheel

        # The postmaster first, so that no child is born between the listing and its signal.
        os.kill(self.pid, signal.SIGSTOP)
        self._frozen = (self.pid,)
        for child in psutil.Process(self.pid).children():
            os.kill(child.pid, signal.SIGSTOP)
            self._frozen += (child.pid,)

    def thaw(self) -> None:
        """Let a frozen server go on where it was suspended; do nothing if it is not frozen."""
        frozen, self._frozen = self._frozen, ()
        for pid in reversed(frozen):
            with suppress(ProcessLookupError):  # killed while frozen
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        self.thaw()
        super().close()
