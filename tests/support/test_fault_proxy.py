"""The fault proxy does what it says."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 20.0
AT_ONCE = 0.1
"""Seconds for which nothing must come; what is wrong shows sooner, nearly always."""


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets."""

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while data := client.recv(65536):
                client.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


@pytest.fixture
def proxy(echo: tuple[str, int]) -> Iterator[FaultProxy]:
    with FaultProxy(*echo) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with connect(proxy) as client:
        yield client


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=PATIENCE)


def receive(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := client.recv(65536)):
        data += more
    return data


def ask(client: socket.socket, question: bytes) -> bytes:
    client.sendall(question)
    return receive(client, len(question))


def hears_nothing(client: socket.socket) -> bool:
    client.settimeout(AT_ONCE)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(PATIENCE)
    return False


def wait_for_none(proxy: FaultProxy) -> None:
    """Wait until the proxy has seen its clients leave."""
    deadline = time.monotonic() + PATIENCE
    while proxy.connections:
        assert time.monotonic() < deadline


def test_forwards_everything_in_order(client: socket.socket) -> None:
    data = b"".join(b"%08d" % number for number in range(300_000))
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    assert receive(client, len(data)) == data
    sender.join()


def test_counts_connections(proxy: FaultProxy) -> None:
    clients = [connect(proxy) for _ in range(3)]
    for each in clients:
        assert ask(each, b"hello") == b"hello"
        each.close()
    wait_for_none(proxy)
    with connect(proxy) as another:
        assert ask(another, b"hello") == b"hello"
        assert (proxy.accepted, proxy.most) == (4, 3)


def test_pausing_holds_back_and_resuming_delivers(proxy: FaultProxy, client: socket.socket) -> None:
    assert ask(client, b"before") == b"before"
    proxy.pause()
    client.sendall(b"meanwhile")
    assert hears_nothing(client)
    with connect(proxy) as another:
        another.sendall(b"new")
        assert hears_nothing(another)
        proxy.resume()
        assert receive(client, 9) == b"meanwhile"
        assert receive(another, 3) == b"new"


@pytest.mark.parametrize("direction", ["to server", "to client"])
def test_one_direction_alone_can_be_paused(
    proxy: FaultProxy, client: socket.socket, direction: str
) -> None:
    proxy.pause(direction)  # type: ignore[arg-type]
    client.sendall(b"meanwhile")
    assert hears_nothing(client)
    proxy.resume()
    assert receive(client, 9) == b"meanwhile"


def test_forgetting_leaves_new_connections_alone(proxy: FaultProxy, client: socket.socket) -> None:
    assert ask(client, b"before") == b"before"
    proxy.forget()
    client.sendall(b"meanwhile")
    with connect(proxy) as another:
        assert ask(another, b"new") == b"new"
    assert hears_nothing(client)


def test_dropping_ends_politely(proxy: FaultProxy, client: socket.socket) -> None:
    assert ask(client, b"before") == b"before"
    proxy.drop()
    assert client.recv(1) == b""
    assert proxy.connections == 0


def test_resetting_does_not(proxy: FaultProxy, client: socket.socket) -> None:
    assert ask(client, b"before") == b"before"
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_truncates_once(proxy: FaultProxy, client: socket.socket) -> None:
    assert ask(client, b"before") == b"before"
    proxy.truncate(4)
    client.sendall(b"broken off")
    assert receive(client, 4) == b"brok"
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with connect(proxy) as another:
        assert ask(another, b"whole again") == b"whole again"


def test_delays_there_and_back(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.delay(0.05)
    begin = time.monotonic()
    assert ask(client, b"late") == b"late"
    assert time.monotonic() - begin >= 0.1


def test_refuses_and_serves_again_on_the_same_port(
    proxy: FaultProxy, client: socket.socket
) -> None:
    assert ask(client, b"before") == b"before"
    proxy.refuse()
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    assert ask(client, b"still") == b"still"
    proxy.serve()
    with connect(proxy) as another:
        assert ask(another, b"after") == b"after"


def test_ignores_new_connections_and_notices_when_they_leave(proxy: FaultProxy) -> None:
    proxy.ignore()
    with connect(proxy) as client:
        client.sendall(b"anybody?")
        assert hears_nothing(client)
        assert proxy.connections == 1
    wait_for_none(proxy)


def test_hangs_up_on_new_connections(proxy: FaultProxy) -> None:
    proxy.hang_up()
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(1) == b""


def test_a_server_that_is_not_there_looks_like_one_that_hangs_up(proxy: FaultProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = server.getsockname()[1]
    proxy.aim("127.0.0.1", nobody)
    with connect(proxy) as client, contextlib.suppress(ConnectionError):
        assert client.recv(1) == b""


def test_the_end_of_the_server_reaches_the_client(proxy: FaultProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy.aim(*server.getsockname())
        with connect(proxy) as client:
            end, _ = server.accept()
            end.sendall(b"bye")
            end.close()
            assert receive(client, 4) == b"bye"


def test_its_end_ends_everything(echo: tuple[str, int]) -> None:
    with FaultProxy(*echo) as proxy:
        client = connect(proxy)
        assert ask(client, b"before") == b"before"
        thread = proxy._thread
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)
    proxy.close()
    assert not thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
