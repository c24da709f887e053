"""Private Redis and Memcached servers that tests freeze, empty and end."""

from __future__ import annotations

import importlib.util
import re
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from pooling.bench.environment import find_program
from pooling.bench.private_postgres import account_for_server
from pooling.bench.private_server import free_port
from pooling.bench.processes import end_process
from tests.support.databases import PATIENCE

if TYPE_CHECKING:
    from typing import Self

HOST = "127.0.0.1"

# Ends with its standard input, so also when this process is killed.
SCRIPT = '"$@" </dev/null & read -r _; kill -KILL $!; wait'


class CacheServer:
    """A cache server that belongs to this process; a context manager."""

    program: ClassVar[str]
    package: ClassVar[str]
    """The Python package that Django's backend needs."""
    backend: ClassVar[str]
    title: ClassVar[str]
    flush_command: ClassVar[str]
    stats_command: ClassVar[str]
    counters: ClassVar[tuple[str, str]]
    """What its statistics call bytes that it received and sent."""

    def __init__(self) -> None:
        self.port = free_port()

    @classmethod
    def missing(cls) -> str | None:
        """Return why there can be no such server here; None if there can."""
        if find_program(cls.program) is None:
            return f"no {cls.program}: apt install {cls.program}"
        if importlib.util.find_spec(cls.package) is None:
            return f"no driver for {cls.program}: pip install {cls.package}"
        return None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def caches(self) -> dict[str, Any]:
        """An entry of `CACHES`."""
        return {"BACKEND": f"django.core.cache.backends.{self.backend}", "LOCATION": self.location}

    @property
    def location(self) -> str:
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return the arguments that it is started with."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, on the same port as before."""
        program = find_program(self.program)
        assert program is not None
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", SCRIPT, "sh", program, *self.command()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            **account_for_server(),
        )
        deadline = time.monotonic() + PATIENCE
        while not self._listens():
            assert time.monotonic() < deadline, f"{self.program} does not answer"
            time.sleep(0.01)

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection((HOST, self.port), 1):
            return True
        return False

    @property
    def pid(self) -> int:
        """The process id."""
        import psutil

        (child,) = psutil.Process(self._process.pid).children()
        return child.pid

    def empty(self) -> None:
        """Remove everything from it, as `cache.clear()` does, and who shares the cache may."""
        assert self.ask(self.flush_command).endswith("OK")

    def traffic(self) -> tuple[int, int]:
        """Return how many bytes it has received and sent."""
        said = self.ask(self.stats_command)
        received, sent = (
            re.search(rf"^(?:STAT )?{name}\W(\d+)", said, re.MULTILINE) for name in self.counters
        )
        assert received
        assert sent
        return int(received[1]), int(sent[1])

    def ask(self, command: str) -> str:
        """Return the answer to a command of the server's own protocol."""
        with socket.create_connection((HOST, self.port), PATIENCE) as connection:
            connection.sendall(f"{command}\r\n".encode())
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile() as file:
                return file.read().strip()

    def end(self) -> None:
        """End it at once; what it held is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        end_process(self._process, None, 5.0)


class Redis(CacheServer):
    """A private Redis."""

    program = "redis-server"
    package = "redis"
    backend = "redis.RedisCache"
    title = "Redis"
    flush_command = "FLUSHALL"
    stats_command = "INFO stats"
    counters = ("total_net_input_bytes", "total_net_output_bytes")

    @property
    def location(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        return ["--port", str(self.port), "--bind", HOST, "--save", "", "--appendonly", "no"]


class Memcached(CacheServer):
    """A private Memcached."""

    program = "memcached"
    package = "pymemcache"
    backend = "memcached.PyMemcacheCache"
    title = "Memcached"
    flush_command = "flush_all"
    stats_command = "stats"
    counters = ("bytes_read", "bytes_written")

    @property
    def location(self) -> str:
        return f"{HOST}:{self.port}"

    def command(self) -> list[str]:
        return ["-p", str(self.port), "-l", HOST, "-m", "64"]


SERVERS = (Redis, Memcached)
