"""The demo project, served by gunicorn in processes of its own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pooling.bench.databases import SetupError
from pooling.bench.processes import end_process, start_python

from . import HOST

if TYPE_CHECKING:
    from typing import Self

START_TIMEOUT = 60.0
END_TIMEOUT = 15.0
SETTINGS = "tests.benchmarks.http.settings"
PAGE = "/users/"
USERS = 500

# Its standard input breaks when this process ends, and gunicorn's workers follow their master.
SERVER = """
from pooling.bench.processes import end_with_parent
end_with_parent()
from gunicorn.app.wsgiapp import run
run()
"""
PREPARATION = """
import django
django.setup()
from django.core.management import call_command
from django.test import Client
from users.models import User
call_command("migrate", verbosity=0)
call_command("seed_users", "{users}", seed=1, verbosity=0)
client = Client()
client.force_login(User.objects.create_superuser("bench", "bench@example.com", None))
print(client.cookies["sessionid"].value)
"""


def find_missing() -> str:
    """Say what is not there that the suite needs, with the remedy; "" if all of it is."""
    if find_spec("gunicorn") is None:
        return "the http suite needs gunicorn: pip install gunicorn"
    if find_spec("poolproject") is None or find_spec("users") is None:
        return "the http suite serves the demo project, so it runs in a checkout of the source only"
    return ""


def environment(entry: dict[str, Any]) -> dict[str, str]:
    """Return what a process needs to be the demo project on a database."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {
        **os.environ,
        "PYTHONPATH": paths,
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "POOLBENCH_DATABASE": json.dumps(entry),
        # The sites are for one machine and one run.
        "SECRET_KEY": KEY,
        "DEBUG": "False",
        "ALLOWED_HOSTS": HOST,
        "SECURE_SSL_REDIRECT": "False",
    }


KEY = secrets.token_hex(32)
"""The same for all sites of a run: they share one user's session."""


def prepare(entry: dict[str, Any]) -> str:
    """Make tables, users and a session in a new database; return the session's key.

    Raises:
        SetupError: that did not work.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", PREPARATION.format(users=USERS)],
            env=environment(entry),
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * START_TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"the demo's database was not ready in {error.timeout:g} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        raise SetupError(f"the demo's database could not be made: {last}")
    return done.stdout.split()[-1]


class Site:
    """The demo, served on a port of this machine, as a context manager.

    Args:
        entry: its database, an entry of `DATABASES`.
        processes: how many workers gunicorn has.
        threads: how many threads each of them has.

    Raises:
        SetupError: on entry, if it does not answer.
    """

    def __init__(self, entry: dict[str, Any], processes: int, threads: int) -> None:
        self._entry, self._processes, self._threads = entry, processes, threads
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="poolbench-")
        self._log = Path(self._folder.name, "log")
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        arguments = [
            *("--workers", str(self._processes), "--worker-class", "gthread"),
            *("--threads", str(self._threads), "--bind", f"{HOST}:{self.port}"),
            *("--log-level", "error", "--error-logfile", str(self._log)),
            *_without_control_socket(),
            "poolproject.wsgi",
        ]
        self._process = start_python(
            SERVER, *arguments, env=environment(self._entry), stderr=subprocess.DEVNULL
        )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                socket.create_connection((HOST, self.port), 1.0).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        log = self._log.read_text(errors="replace").strip() if self._log.exists() else ""
        raise SetupError(
            f"gunicorn does not answer: {(log.splitlines() or ['its log is empty'])[-1]}"
        )

    def close(self) -> None:
        """End the server, by force if it does not end by itself. May be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            end_process(process, signal.SIGTERM, END_TIMEOUT)
        finally:
            self._folder.cleanup()


def _without_control_socket() -> list[str]:
    """Newer gunicorns listen on a socket in the user's home, of which there is but one."""
    from gunicorn.config import make_settings  # type: ignore[import-untyped, unused-ignore]

    known = "control_socket_disable" in make_settings()
    return ["--no-control-socket"] if known else []
