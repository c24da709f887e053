"""Run the demo until Ctrl-C: `make demo`, or `python -m tests.demo --once --port 8000`."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from itertools import count
from pathlib import Path

from tests.support.postgres import PrivatePostgres

ROOT = Path(__file__).parents[2]
WORKERS, THREADS = 3, 16


def say(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Load:
    """Callers of the site, as many as asked for."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._end = threading.Event()
        self._wanted = 0
        self._paths: tuple[str, ...] = ()
        self._numbers = count(1)
        for place in range(60):
            threading.Thread(target=self._call, args=(place,), daemon=True).start()

    def set(self, callers: int, *paths: str) -> None:
        """Have so many callers ask for these paths, `{}` being a number."""
        self._wanted, self._paths = callers, paths

    def once(self, path: str) -> None:
        """Ask for one path."""
        with suppress(OSError):  # errors are part of the demo
            urllib.request.urlopen(f"{self._address}{path}", timeout=30).close()

    def _call(self, place: int) -> None:
        while not self._end.wait(0.01):
            if place >= self._wanted:
                self._end.wait(0.2)
                continue
            number = next(self._numbers)
            self.once(self._paths[number % len(self._paths)].format(number))

    def end(self) -> None:
        """Ask for nothing more."""
        self._wanted = 0
        self._end.set()


def scenes(
    load: Load, server: PrivatePostgres, web: subprocess.Popen[bytes], seconds: float
) -> None:
    """What happens to a site, each scene for so many seconds."""
    quick = ("/demo/query/20/", "/demo/query/60/")
    busy = (*quick, "/demo/report/{}/")

    def show(text: str) -> None:
        say(f"{time.strftime('%H:%M:%S')}  {text}")
        time.sleep(seconds)

    load.set(6, *quick)
    show("ordinary load: free connections, nobody waits")
    load.set(24, *busy)
    show("exhausted: reports hold connections while Python works, callers wait")
    load.set(6, *quick)
    for _ in range(4):
        load.once("/demo/leak/")
    show("a leak: GET /demo/leak/ takes connections and does not give them back")
    server.stop("immediate")
    show("an outage: the server is stopped, callers are refused")
    server.start()
    show("the server is back")
    os.kill(web.pid, signal.SIGHUP)
    show("a deployment: all processes are replaced")


def main() -> None:
    """Start everything, play the scenes, and clear away."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--once", action="store_true", help="end after one round of the scenes")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a scene")
    parser.add_argument("--password", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    address = f"http://127.0.0.1:{options.port}"
    password = options.password or secrets.token_urlsafe(9)
    # Terminating the program ends it as Ctrl-C does: everything is cleared away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="pooling-demo-", ignore_cleanup_errors=True) as folder,
        PrivatePostgres(max_connections=40) as server,
    ):
        environment = {
            **os.environ,
            "DEBUG": "1",
            "DATABASE_URL": server.url.replace("postgresql://", "postgres://"),
            "CACHE_URL": f"filecache://{folder}/cache",
            "DJANGO_SETTINGS_MODULE": "tests.demo.settings",
            "DJANGO_SUPERUSER_PASSWORD": password,
        }

        def manage(*arguments: str) -> None:
            command = [sys.executable, "-m", "django", *arguments]
            subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)

        manage("migrate", "--verbosity", "0")
        about = ("--username", "demo", "--email", "demo@example.com", "--noinput")
        manage("createsuperuser", *about, "--verbosity", "0")
        manage("seed_users", "500")
        with Path(folder, "log").open("w") as log:
            web = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{options.port}"),
                    *("--workers", str(WORKERS), "--threads", str(THREADS), "--no-control-socket"),
                    *("--graceful-timeout", "5", "django.core.wsgi:get_wsgi_application()"),
                ],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,  # out of reach of the terminal's Ctrl-C
            )
        load = Load(address)
        say(f"\nOpen {address}/admin/pooling/connectionpool/")
        say(f"Log in as demo, password {password}")
        say("Look at the headline, the graphs and the leases. Ctrl-C ends it.\n")
        try:
            while True:
                scenes(load, server, web, options.seconds)
                if options.once:
                    return
        finally:
            load.end()
            web.terminate()
            with suppress(subprocess.TimeoutExpired):
                web.wait(20)
            web.kill()
            web.wait()


if __name__ == "__main__":
    main()
