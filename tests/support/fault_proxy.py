"""A network that fails as told: a TCP relay in front of a server, run by a thread of this process.

Every method returns when what it says is in force, so a test needs no sleeps:

    with FaultProxy(server.host, server.port) as proxy:
        connect(proxy.host, proxy.port)
        proxy.pause()       # packets vanish
        proxy.resume()      # and arrive after all
        proxy.reset()       # every connection ends with a RST
        proxy.refuse()      # nobody listens any more
        proxy.serve()       # all is well again, for new connections

What a relay cannot do is to let the acknowledgements of TCP vanish, too: the kernel gives them for
a paused connection as it does for a process that hangs. So this is a server, or a load balancer,
that is frozen; the kernel's own timeouts (`tcp_user_timeout`, keepalives) never strike here.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal

from pooling.bench.private_server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

Direction = Literal["to server", "to client"]
DIRECTIONS: tuple[Direction, Direction] = ("to server", "to client")

PATIENCE = 20.0
"""Seconds after which the proxy itself is taken to hang."""
CHUNK = 65536
MOST_PENDING = 16 * CHUNK
"""Bytes that are held back for one direction before the sender is made to wait."""
NO_LINGER = struct.pack("ii", 1, 0)
"""As SO_LINGER: closing sends a RST, whatever has not been sent yet."""


class FaultProxy:
    """A relay to a server, on a local port of its own, as a context manager.

    Attributes:
        port: where clients connect to. It stays the same through `refuse` and `serve`.
        server: host and port of the server.
        accepted: how many connections there have been.
        most: the most there have been at the same time since `accepted` or `most` were set to 0.
    """

    host = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.accepted = 0
        self.most = 0
        self.server = host, port
        self._links: set[Link] = set()
        self._dark: set[Direction] = set()
        self._latency = 0.0
        self._cut: dict[Direction, int] = {}
        self._greet: Callable[[socket.socket], None] = self._forward
        self._listener: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._orders: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._bell, self._ringer = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._ended = False

    def __enter__(self) -> Self:
        self._bell.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ, self._hear)
        self.port = free_port()
        self._listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything. May be called twice."""
        if self._thread.is_alive():
            self._order(self._end)
            self._thread.join(PATIENCE)
        for each in (self._bell, self._ringer):
            each.close()
        self._selector.close()

    # ---- what becomes of new connections -------------------------------------------------------

    def serve(self) -> None:
        """Accept connections and forward them to the server."""
        self._order(lambda: self._listen(self._forward))

    def refuse(self) -> None:
        """Let nobody listen: "connection refused"."""
        self._order(self._stop_listening)

    def ignore(self) -> None:
        """Accept connections and never say a word, not even to the first byte of a handshake."""
        self._order(lambda: self._listen(self._keep))

    def hang_up(self) -> None:
        """Accept connections and close them at once, as a load balancer without a server does."""
        self._order(lambda: self._listen(self._turn_away))

    def aim(self, host: str, port: int) -> None:
        """Forward new connections to another server."""
        self._order(lambda: setattr(self, "server", (host, port)))

    # ---- what becomes of those there are -------------------------------------------------------

    def pause(self, *directions: Direction) -> None:
        """Hold back what is sent, on all connections and on those to come, until `resume`."""
        self._order(lambda: self._darken(set(directions or DIRECTIONS), ever=True))

    def forget(self, *directions: Direction) -> None:
        """Hold back what is sent on the connections there are, as a firewall that forgot them.

        New ones work.
        """
        self._order(lambda: self._darken(set(directions or DIRECTIONS), ever=False))

    def resume(self) -> None:
        """Deliver what was held back, and go on."""
        self._order(self._lighten)

    def drop(self) -> None:
        """Close all connections, politely."""
        self._order(lambda: self._close_links(rudely=False))

    def reset(self) -> None:
        """End all connections with a RST."""
        self._order(lambda: self._close_links(rudely=True))

    def delay(self, seconds: float) -> None:
        """Let everything take so much longer, each way."""
        self._order(lambda: setattr(self, "_latency", seconds))

    def truncate(self, count: int, direction: Direction = "to client") -> None:
        """Forward the next `count` bytes that come this way, then end their connection: RST."""
        self._order(lambda: self._cut.__setitem__(direction, count))

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._order(lambda: len(self._links))

    # ---- the thread ----------------------------------------------------------------------------

    def _order(self, act: Callable[[], Any]) -> Any:
        """Have the thread do something, and wait until it is done."""
        if threading.current_thread() is self._thread:
            return act()
        done: Future[Any] = Future()
        self._orders.append((act, done))
        self._ringer.send(b"!")
        return done.result(PATIENCE)

    def _run(self) -> None:
        while not self._ended:
            dues = [due for link in self._links if (due := link.due()) is not None]
            pause = max(min(dues) - time.monotonic(), 0.0) if dues else None
            for key, _ in self._selector.select(pause):
                if key.fileobj.fileno() >= 0:  # not closed by the one before it
                    key.data()
            for link in list(self._links):
                link.flush()

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(CHUNK)
        while self._orders:
            act, done = self._orders.popleft()
            try:
                done.set_result(act())
            except BaseException as error:
                done.set_exception(error)

    def _end(self) -> None:
        self._stop_listening()
        self._close_links(rudely=True)
        self._ended = True

    def _listen(self, greet: Callable[[socket.socket], None] | None = None) -> None:
        self._greet = greet or self._greet
        if self._listener is None:
            self._listener = socket.create_server((self.host, self.port), backlog=128)
            self._listener.setblocking(False)
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            self._selector.unregister(listener)
            listener.close()

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            client, _ = self._listener.accept()
        except OSError:  # it has thought better of it
            return
        self.accepted += 1
        self._greet(client)
        self.most = max(self.most, len(self._links))

    def _forward(self, client: socket.socket) -> None:
        try:
            server = _connect(*self.server)
        except OSError:
            client.close()
            return
        self._links.add(Link(self, client, server, self._dark))

    def _keep(self, client: socket.socket) -> None:
        mute, other = socket.socketpair()
        self._links.add(Link(self, client, mute, {"to client"}, other))

    def _turn_away(self, client: socket.socket) -> None:
        # With the first words of the client read: unread, they would make this a RST.
        with contextlib.suppress(OSError):
            client.settimeout(1)
            client.recv(CHUNK)
        client.close()

    def _darken(self, directions: set[Direction], *, ever: bool) -> None:
        if ever:
            self._dark = self._dark | directions
        for link in self._links:
            link.blackhole(directions)

    def _lighten(self) -> None:
        self._dark = set()
        for link in self._links:
            link.lighten()

    def _close_links(self, *, rudely: bool) -> None:
        for link in list(self._links):
            link.close(rudely=rudely)

    # ---- what links ask for --------------------------------------------------------------------

    @property
    def latency(self) -> float:
        return self._latency

    @property
    def selector(self) -> selectors.BaseSelector:
        return self._selector

    def allowance(self, direction: Direction, size: int) -> int | None:
        """Return how much of `size` may still pass before the cut; None if there is no cut."""
        left = self._cut.get(direction)
        if left is None:
            return None
        if size < left:
            self._cut[direction] = left - size
            return None
        del self._cut[direction]
        return left

    def note(self, link: Link, direction: Direction, data: bytes) -> None:
        """Hear what has come, before it goes on; for a proxy that writes it down."""

    def lost(self, link: Link) -> None:
        self._links.discard(link)


def _connect(host: str, port: int) -> socket.socket:
    """Connect to a server, or by its Unix socket if `host` is the folder of that."""
    if not host.startswith("/"):
        return socket.create_connection((host, port), timeout=5)
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(f"{host}/.s.PGSQL.{port}")
    except OSError:
        server.close()
        raise
    return server


class Link:
    """One relayed connection. Everything here is done by the proxy's thread."""

    def __init__(
        self,
        proxy: FaultProxy,
        client: socket.socket,
        server: socket.socket,
        dark: set[Direction],
        *companions: socket.socket,
    ) -> None:
        self._proxy = proxy
        self._ends: dict[Direction, tuple[socket.socket, socket.socket]] = {
            "to server": (client, server),
            "to client": (server, client),
        }
        self._companions = companions
        self._pending: dict[Direction, deque[tuple[float, bytes | None]]] = {
            direction: deque() for direction in DIRECTIONS
        }
        self._dark: set[Direction] = set()
        self._reading: set[Direction] = set()
        self._open = True
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.blackhole(dark)
        self._choose()

    def blackhole(self, directions: set[Direction]) -> None:
        self._dark = self._dark | directions
        self._choose()

    def lighten(self) -> None:
        self._dark = set()
        self._choose()

    def due(self) -> float | None:
        """Return when something has to be delivered."""
        dues = [
            pending[0][0]
            for direction, pending in self._pending.items()
            if pending and direction not in self._dark
        ]
        return min(dues, default=None)

    def flush(self) -> None:
        """Deliver what is due."""
        for direction, (_, target) in self._ends.items():
            pending = self._pending[direction]
            while self._open and pending and direction not in self._dark:
                due, data = pending[0]
                if due > time.monotonic():
                    break
                if data is None:
                    self.close(rudely=False)
                    return
                allowed = self._proxy.allowance(direction, len(data))
                try:
                    sent = target.send(data if allowed is None else data[:allowed])
                except BlockingIOError:
                    pending[0] = (time.monotonic() + 0.001, data)
                    break
                except OSError:
                    self.close(rudely=True)
                    return
                if allowed is not None:
                    self.close(rudely=True)
                    return
                pending.popleft()
                if sent < len(data):
                    pending.appendleft((due, data[sent:]))
        if self._open:
            self._choose()

    def close(self, *, rudely: bool) -> None:
        """End both connections: with a RST, or politely."""
        if not self._open:
            return
        self._open = False
        for direction in list(self._reading):
            self._proxy.selector.unregister(self._ends[direction][0])
        self._reading.clear()
        for end in (*self._ends["to server"], *self._companions):
            if rudely:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            else:
                # What the kernel has for us and nobody read would make it a RST after all.
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_WR)
                with contextlib.suppress(OSError):
                    end.recv(CHUNK)
            end.close()
        self._proxy.lost(self)

    def _choose(self) -> None:
        """Read from those ends that may send just now."""
        for direction, (source, _) in self._ends.items():
            size = sum(len(data) for _, data in self._pending[direction] if data is not None)
            ended = any(data is None for _, data in self._pending[direction])
            wanted = direction not in self._dark and size < MOST_PENDING and not ended
            if wanted and direction not in self._reading:
                self._reading.add(direction)
                self._proxy.selector.register(
                    source, selectors.EVENT_READ, lambda way=direction: self._read(way)
                )
            elif not wanted and direction in self._reading:
                self._reading.discard(direction)
                self._proxy.selector.unregister(source)

    def _read(self, direction: Direction) -> None:
        if not self._open or direction not in self._reading:
            return
        try:
            data = self._ends[direction][0].recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.close(rudely=True)
            return
        self._proxy.note(self, direction, data)
        due = time.monotonic() + self._proxy.latency
        self._pending[direction].append((due, data or None))
        self.flush()
