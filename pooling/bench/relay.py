"""A TCP relay that adds the round-trip time that a server on the same machine does not have.

It runs in a process of its own, so that its work is not the contenders'. Every packet is held back
for half of the time in each direction; opening a connection takes one round trip more.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections import deque
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from .processes import WorkerFailedError, WorkerProcess
from .worker import end_with_parent

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from typing import Self

CHUNK = 65536


class RelayError(RuntimeError):
    """The relay could not be started."""


class Relay(WorkerProcess):
    """A relay to a server, on a local port of its own, as a context manager.

    Args:
        host: the server's name, or the folder of its unix socket.
        port: its port.
        rtt: the round-trip time to add, in seconds.

    Raises:
        RelayError: on entry.
    """

    program = "from pooling.bench.relay import main; main()"
    host = "127.0.0.1"

    def __init__(self, host: str, port: int, rtt: float) -> None:
        super().__init__((host, port, rtt))
        self.port = 0

    def __enter__(self) -> Self:
        try:
            self.start()
            self.port = self.ready()
        except WorkerFailedError as error:
            raise RelayError(f"the relay did not start: {error}") from error
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


async def connect(host: str, port: int) -> tuple[StreamReader, StreamWriter]:
    """Connect to the server, by TCP or by the unix socket in a folder."""
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)


async def pass_on(reader: StreamReader, writer: StreamWriter, delay: float) -> None:
    """Pass everything on, in order, `delay` seconds late; the end, too."""
    loop = asyncio.get_running_loop()
    late: deque[bytes] = deque()
    try:
        while data := await reader.read(CHUNK):
            late.append(data)
            # From a queue: two timers for the same moment have no order.
            loop.call_later(delay, lambda: writer.write(late.popleft()))
    except ConnectionError:
        pass
    await asyncio.sleep(delay)
    writer.close()


async def serve(channel: Connection) -> None:
    """Relay for ever; send the port first."""
    _, (host, port, rtt) = channel.recv()
    delay = float(rtt) / 2

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        await asyncio.sleep(2 * delay)
        try:
            back_reader, back_writer = await connect(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            pass_on(reader, back_writer, delay), pass_on(back_reader, writer, delay)
        )

    server = await asyncio.start_server(handle, Relay.host, 0)
    channel.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def main() -> None:
    """Serve until the parent ends."""
    end_with_parent()
    # select() takes microseconds, epoll only milliseconds.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(serve(Connection(int(sys.argv[1]))))
