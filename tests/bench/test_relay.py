"""The relay passes everything on, in order, and late."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pooling.bench.contenders import CONTENDERS
from pooling.bench.plan import Plan
from pooling.bench.relay import Relay
from pooling.bench.runner import run
from pooling.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator


RTT = 0.02


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server that sends back what it gets, to one client after the other."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        while data := client.recv(65536):
                            client.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def receive(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := client.recv(65536)):
        data += more
    return data


def test_adds_the_time_there_and_back(echo_port: int) -> None:
    with (
        Relay("127.0.0.1", echo_port, RTT) as relay,
        socket.create_connection((relay.host, relay.port), timeout=10) as client,
    ):
        begin = time.monotonic()
        client.sendall(b"first")
        assert receive(client, 5) == b"first"
        assert time.monotonic() - begin >= 2 * RTT  # with the handshake's
        begin = time.monotonic()
        client.sendall(b"again")
        assert receive(client, 5) == b"again"
        assert time.monotonic() - begin >= RTT


def test_keeps_the_order_of_what_is_sent_in_pieces(echo_port: int) -> None:
    data = b"".join(b"%08d" % number for number in range(50_000))
    with (
        Relay("127.0.0.1", echo_port, 0.002) as relay,
        socket.create_connection((relay.host, relay.port), timeout=10) as client,
    ):
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        assert receive(client, len(data)) == data
        sender.join()


def test_hangs_up_when_the_server_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        Relay("127.0.0.1", port, 0.001) as relay,
        socket.create_connection((relay.host, relay.port), timeout=10) as client,
    ):
        client.sendall(b"hello?")
        with contextlib.suppress(ConnectionError):
            assert client.recv(10) == b""


def test_it_ends_with_its_block_and_its_clients_connections_with_it(echo_port: int) -> None:
    before = threading.enumerate()
    with Relay("127.0.0.1", echo_port, RTT) as relay:
        client = socket.create_connection((relay.host, relay.port), timeout=10)
        client.sendall(b"first")
        assert receive(client, 5) == b"first"
    assert threading.enumerate() == before
    with client, contextlib.suppress(ConnectionError):
        assert client.recv(10) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((relay.host, relay.port), timeout=10)


@pytest.mark.parametrize("server", ["postgres_provider", "mysql_provider"])
def test_contenders_meet_it_and_the_counter_does_not(
    server: str, request: pytest.FixtureRequest
) -> None:
    plan = Plan(
        contenders=(CONTENDERS["stock"], CONTENDERS["pooled"]),
        workloads=(WORKLOADS["connect"],),
        rounds=1,
        iterations=5,
        threads=(1,),
        rtt=RTT,
    )
    [found] = run(request.getfixturevalue(server), plan)
    for record in found.records:
        assert min(record.rounds[1]["connect"].phases["connect"].latencies) >= RTT
        assert record.opened is not None
    assert [record.opened.opened for record in found.records] == [10, 1]
