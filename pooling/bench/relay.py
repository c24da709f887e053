"""A TCP relay that adds the round-trip time that a server on the same machine does not have.

It runs in a thread of this process, so that its work is not the contenders'. Every packet is held
back for half of the time in each direction; opening a connection takes one round trip more.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from typing import Self

CHUNK = 65536


class Relay:
    """A relay to a server, on a local port of its own, as a context manager.

    Args:
        host: the server's name, or the folder of its unix socket.
        port: its port.
        rtt: the round-trip time to add, in seconds.
    """

    host = "127.0.0.1"

    def __init__(self, host: str, port: int, rtt: float) -> None:
        self._target, self._rtt = (host, port), rtt
        # select() takes microseconds, epoll only milliseconds.
        self._loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        self._end = asyncio.Event()
        self._port: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, name="poolbench-relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self._port.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        try:
            server = await asyncio.start_server(self._relay, self.host, 0)
        except OSError as error:
            self._port.set_exception(error)
            return
        self._port.set_result(server.sockets[0].getsockname()[1])
        await self._end.wait()
        server.close()

    async def _relay(self, reader: StreamReader, writer: StreamWriter) -> None:
        await asyncio.sleep(self._rtt)
        try:
            back_reader, back_writer = await connect(*self._target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            pass_on(reader, back_writer, self._rtt / 2), pass_on(back_reader, writer, self._rtt / 2)
        )


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
        await asyncio.sleep(delay)
    except ConnectionError:
        await asyncio.sleep(delay)
    finally:
        writer.close()
