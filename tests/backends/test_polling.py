"""The poll of a socket that keeps the interpreter's lock, and what replaces it without ctypes."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from pooling.backends.postgresql import polling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=["ctypes", "poll", "select"])
def readable(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], Callable[[], object]]:
    """`polling.readable`, in each of its forms."""
    if request.param == "ctypes":
        assert polling._poll is not None
    else:
        monkeypatch.setattr(polling, "_poll", None)
    if request.param == "select":
        monkeypatch.delattr(polling.select, "poll")
    return polling.readable


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_socket_is_readable_when_something_came(
    readable: Callable[[int], Callable[[], object]], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    is_readable = readable(ours.fileno())
    assert not is_readable()
    theirs.send(b"x")
    assert is_readable()
    ours.recv(1)
    assert not is_readable()


def test_a_socket_is_readable_when_the_other_end_is_closed(
    readable: Callable[[int], Callable[[], object]], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    is_readable = readable(ours.fileno())
    theirs.close()
    assert is_readable()


def test_a_descriptor_that_is_closed_counts_as_readable(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """It is in error; the ping that follows fails."""
    is_readable = polling.readable(pair[0].fileno())
    pair[0].close()
    assert is_readable()


@pytest.mark.serial
@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there is no such lock"
)
def test_the_interpreters_lock_is_kept(pair: tuple[socket.socket, socket.socket]) -> None:
    """A thread that waits for it does not run between two polls, which `select.poll` would let it.

    It may have asked for the lock just before: so one of several rounds without a step is enough.
    """
    is_readable = polling.readable(pair[0].fileno())
    poller = select.poll()
    poller.register(pair[0].fileno(), select.POLLIN)
    steps = [0]
    running, stop = threading.Event(), threading.Event()

    def count() -> None:
        while not stop.is_set():
            steps[0] += 1
            running.set()

    def has_no_step(poll: Callable[[], object]) -> bool:
        before = steps[0]
        for _ in range(10_000):
            poll()
            if steps[0] != before:
                return False
        return True

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=count)
    thread.start()
    try:
        assert running.wait(20)
        sys.setswitchinterval(0.1)  # a thread that computes keeps the lock for so long
        assert any(has_no_step(is_readable) for _ in range(5))
        # The thread may be without a processor for a while, on a busy machine.
        assert not all(has_no_step(lambda: poller.poll(0)) for _ in range(50))
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        thread.join(20)


def test_without_ctypes_there_is_still_a_poll() -> None:
    code = (
        "import sys; sys.modules['ctypes'] = None\n"
        "import socket\n"
        "from pooling.backends.postgresql import polling\n"
        "ours, theirs = socket.socketpair()\n"
        "assert polling._poll is None\n"
        "assert not polling.readable(ours.fileno())()\n"
        "theirs.close()\n"
        "assert polling.readable(ours.fileno())()\n"
        "ours.close()\n"
    )
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr
