"""The clients that load a page, in a process of their own."""

from __future__ import annotations

import socket
import threading
import time
from time import perf_counter

from pooling.bench.measurements import PhaseReport, Samples, describe_error
from tests.benchmarks.micro.probes.base import Probe, in_threads

from . import HOST

TIMEOUT = 10.0
PAUSE_AFTER_ERROR = 0.02
CHUNK = 65536


class LoadError(Exception):
    """The answer was not the page."""


class Load(Probe):
    """So many clients, each of which asks for the page again as soon as it has it.

    Each request has a connection of its own, as behind a proxy that keeps none (nginx does not,
    unless it is told to). With connections that are kept, it would be chance how many of the few
    clients each of gunicorn's processes gets.

    Args:
        port: where the site is.
        page: its path.
        session: the key of the session of a user who may see it.
        clients: how many there are.
        proof: what is on the page, and on no error page.
    """

    def __init__(self, port: int, page: str, session: str, clients: int, proof: str) -> None:
        self.address = HOST, port
        self.clients = clients
        self.proof = proof.encode()
        self.request = (
            f"GET {page} HTTP/1.1\r\nHost: {HOST}:{port}\r\nCookie: sessionid={session}\r\n"
            "Connection: close\r\n\r\n"
        ).encode()

    def trial(self, number: int) -> PhaseReport:  # type: ignore[override]
        """Ask for `number` milliseconds."""
        clients: list[Samples] = []
        lock = threading.Lock()
        end = perf_counter() + number / 1000

        def work() -> None:
            samples = Samples()
            samples.begin = begin = perf_counter()
            while begin < end or begin == samples.begin:  # once in any case
                try:
                    self.ask()
                except (OSError, LoadError) as error:
                    samples.errors[describe_error(error)] += 1
                    time.sleep(PAUSE_AFTER_ERROR)
                else:
                    samples.latencies.append(perf_counter() - begin)
                begin = perf_counter()
            samples.end = perf_counter()
            with lock:
                clients.append(samples)

        in_threads(self.clients, work)
        return PhaseReport.of(clients, by_time=True)

    def ask(self) -> None:
        """Get the page, once."""
        with socket.create_connection(self.address, TIMEOUT) as connection:
            connection.sendall(self.request)
            parts = []
            while part := connection.recv(CHUNK):
                parts.append(part)
        answer = b"".join(parts)
        status = answer.partition(b"\r\n")[0]
        if b" 200 " not in status + b" ":
            raise LoadError(status.decode("ascii", "replace") or "no answer")
        if self.proof not in answer:
            raise LoadError("another page")
