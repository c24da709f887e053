"""Real processes of a fleet, controlled by the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from queue import Queue
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 60.0

SCRIPT = """
import json, os, sys, threading, time
from tests.support.servers import choose_driver
choose_driver()
import django
from django.conf import settings
settings.configure(**json.loads(sys.argv[1]))
django.setup()
from django.db import connection
from pooling import fleet, get_pool
from pooling.fleet.aggregate import aggregate
names = dict(globals())
names["names"] = names
for line in sys.stdin:
    code = json.loads(line)
    try:
        answer = eval(compile(code, "member", "eval"), names)
    except Exception as error:
        answer = {"raised": repr(error)}
    print(json.dumps(answer, default=str), flush=True)
"""


def file_cache(folder: Path) -> dict[str, Any]:
    """Return `CACHES` with files, which processes share."""
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    return {"default": {"BACKEND": backend, "LOCATION": str(folder)}}


class Member:
    """A process with a pool and the setting `POOLING`.

    Args:
        entry: its `DATABASES["default"]`.
        caches: its `CACHES`.
        pooling: its `POOLING`.
    """

    def __init__(
        self, entry: dict[str, Any], caches: dict[str, Any], pooling: dict[str, Any]
    ) -> None:
        settings = {
            "DATABASES": {"default": entry},
            "CACHES": caches,
            "POOLING": pooling,
            "INSTALLED_APPS": ["pooling"],
            "SECRET_KEY": "only for tests",
            "USE_TZ": True,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, json.dumps(settings, default=str)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        self._answers: Queue[str] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, code: str) -> Any:
        """Return the value of an expression there."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()
        answer = self._answers.get(timeout=PATIENCE)
        assert answer, self.end()
        return json.loads(answer)

    def use(self) -> None:
        """Lease a connection once, as a request does."""
        assert self.ask("(connection.ensure_connection(), connection.close())") == [None, None]

    def sees(self) -> set[int]:
        """Return the process ids that it sees."""
        return set(self.ask("[each['pid'] for each in fleet.processes()]"))

    def kill(self) -> None:
        """Kill it at once."""
        self.process.kill()
        self.end()

    def end(self) -> str:
        """End it and return what it wrote to stderr."""
        try:
            _, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, errors = self.process.communicate()
        return str(errors)
