"""A TCP relay that adds the round-trip time that a server on the same machine does not have.

It runs in a process of its own, so that its work is not the contenders'. Every packet is held back
for half of the time in each direction; opening a connection takes one round trip more.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import subprocess
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

START_BOUND = 20.0
END_BOUND = 5.0
PROGRAM = "from pooling.bench.relay import main; main()"


class RelayError(RuntimeError):
    """The relay could not be started."""


class Relay:
    """A relay to a server, on a local port of its own, as a context manager.

    Args:
        host: the server's name, or the folder of its unix socket.
        port: its port.
        rtt: the round-trip time to add, in seconds.
    """

    host = "127.0.0.1"

    def __init__(self, host: str, port: int, rtt: float) -> None:
        self._arguments = [host, str(port), str(rtt)]
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", PROGRAM, *self._arguments],
            stdin=subprocess.PIPE,  # when it breaks, we are gone
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,
        )
        try:
            self.port = self._read_port(self._process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    @staticmethod
    def _read_port(process: subprocess.Popen[str]) -> int:
        if process.stdout is None:
            raise RelayError("the relay has no output")
        alarm = threading.Timer(START_BOUND, process.kill)
        alarm.start()
        try:
            line = process.stdout.readline()
        finally:
            alarm.cancel()
        if not line.strip().isdigit():
            raise RelayError("the relay did not start")
        return int(line)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait(END_BOUND)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


class _Side(asyncio.Protocol):
    """One end of a relayed connection; what it receives goes to the other one, later."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._late: deque[bytes | None] = deque()
        self._transport: asyncio.Transport | None = None
        self.other: _Side | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pass_on(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._pass_on(None)

    def _pass_on(self, data: bytes | None) -> None:
        # In order, even if two of them are due at the same moment.
        self._late.append(data)
        self._loop.call_later(self._delay, self._deliver)

    def _deliver(self) -> None:
        if not self._late:  # the server could not be reached
            return
        if self.other is None:  # it is still being connected
            self._loop.call_later(self._delay, self._deliver)
            return
        self.other.write(self._late.popleft())

    def write(self, data: bytes | None) -> None:
        if self._transport is None:
            return
        if data is None:
            self._transport.close()
        elif not self._transport.is_closing():
            self._transport.write(data)


class _Front(_Side):
    """The end that clients connect to; it connects the other one to the server."""

    def __init__(self, host: str, port: int, delay: float) -> None:
        super().__init__(delay)
        self._server = host, port
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        host, port = self._server
        await asyncio.sleep(2 * self._delay)
        back = _Side(self._delay)
        back.other = self
        try:
            if host.startswith("/"):
                path = f"{host}/.s.PGSQL.{port}"
                await self._loop.create_unix_connection(lambda: back, path)
            else:
                await self._loop.create_connection(lambda: back, host, port)
        except OSError:
            self.write(None)
            self._late.clear()
            return
        self.other = back


async def relay(host: str, port: int, rtt: float) -> None:
    """Relay for ever; print the port first."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Front(host, port, rtt / 2), Relay.host, 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    from .worker import die_with_parent

    die_with_parent()
    host, port, rtt = sys.argv[1:]
    # select() takes microseconds, epoll only milliseconds.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(relay(host, int(port), float(rtt)))
