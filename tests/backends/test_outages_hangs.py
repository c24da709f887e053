"""The bound of the pool's own round trips, at a socket."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pooling.backends.postgresql.deadlines import ANSWER_TIMEOUT, DeadlineMonitor
from tests.support.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator

JUST_BEFORE = ANSWER_TIMEOUT - 0.001


class Rounds:
    """In place of maintenance: notes when it shall come."""

    def __init__(self) -> None:
        self.calls: list[float] = []

    def schedule(self, what: Any, when: float) -> None:
        self.calls.append(when)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def rounds() -> Rounds:
    return Rounds()


@pytest.fixture
def monitor(clock: FakeClock, rounds: Rounds) -> DeadlineMonitor:
    return DeadlineMonitor(clock, rounds)  # type: ignore[arg-type]


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def is_open(ours: socket.socket, theirs: socket.socket) -> bool:
    theirs.sendall(b"!")
    return ours.recv(1) == b"!"


def test_a_round_trip_past_its_deadline_is_expired(
    monitor: DeadlineMonitor,
    clock: FakeClock,
    rounds: Rounds,
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = sockets
    answers: list[bytes] = []
    with monitor.limit(ours):
        thread = threading.Thread(target=lambda: answers.append(ours.recv(1)))
        thread.start()
        assert rounds.calls == [clock.now() + ANSWER_TIMEOUT]
        clock.advance(JUST_BEFORE)
        assert monitor.maintain() == rounds.calls[0]
        assert answers == []
        clock.advance(0.01)
        assert monitor.maintain() is None
        thread.join(20)
    assert answers == [b""]
    assert monitor.deadlines == {}


def test_what_ends_in_time_is_left_alone(
    monitor: DeadlineMonitor, clock: FakeClock, sockets: tuple[socket.socket, socket.socket]
) -> None:
    with monitor.limit(sockets[0]):
        clock.advance(JUST_BEFORE)
    clock.advance(ANSWER_TIMEOUT)
    assert monitor.maintain() is None
    assert is_open(*sockets)


def test_what_ends_as_it_is_about_to_be_cut_is_left_alone(
    monitor: DeadlineMonitor, sockets: tuple[socket.socket, socket.socket]
) -> None:
    """Its descriptor may belong to somebody else's file by then."""
    with monitor.limit(sockets[0]) as bound:
        pass
    bound.expire()
    assert is_open(*sockets)


def test_a_connection_closed_meanwhile_is_left_alone(
    monitor: DeadlineMonitor, clock: FakeClock, sockets: tuple[socket.socket, socket.socket]
) -> None:
    """An interrupt kept the context from ending; the descriptor may have a new owner by now."""
    bound = monitor.limit(sockets[0]).__enter__()
    sockets[0].close()
    ours, theirs = socket.socketpair()  # the lowest descriptor that is free
    with ours, theirs:
        clock.advance(2 * ANSWER_TIMEOUT)
        assert monitor.maintain() is None
        assert is_open(ours, theirs)
    assert bound not in monitor.deadlines


def test_an_error_ends_it_too(
    monitor: DeadlineMonitor, clock: FakeClock, sockets: tuple[socket.socket, socket.socket]
) -> None:
    with pytest.raises(KeyboardInterrupt), monitor.limit(sockets[0]):
        raise KeyboardInterrupt
    clock.advance(2 * ANSWER_TIMEOUT)
    assert monitor.maintain() is None
    assert is_open(*sockets)


def test_the_next_one_is_told_when_several_are_under_way(
    monitor: DeadlineMonitor, clock: FakeClock, sockets: tuple[socket.socket, socket.socket]
) -> None:
    with monitor.limit(sockets[0]):
        clock.advance(1)
        with monitor.limit(sockets[1]) as second:
            clock.advance(JUST_BEFORE)
            assert monitor.maintain() == second.due_at
            assert list(monitor.deadlines) == [second]


def test_a_forked_child_leaves_its_parents_sockets_alone(
    monitor: DeadlineMonitor,
    clock: FakeClock,
    sockets: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """scenario 33."""
    with monitor.limit(sockets[0]):
        clock.advance(2 * ANSWER_TIMEOUT)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert monitor.maintain() is None
        assert is_open(*sockets)


def test_a_lock_that_was_held_at_the_fork_does_not_stop_maintenance_in_the_child(
    monitor: DeadlineMonitor,
    clock: FakeClock,
    sockets: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """scenario 32: a thread of the parent's was just ending a round trip."""
    bound = monitor.limit(sockets[0]).__enter__()
    clock.advance(2 * ANSWER_TIMEOUT)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with bound._lock:
        maintenance = threading.Thread(target=monitor.maintain, daemon=True)
        maintenance.start()
        maintenance.join(20)
        assert not maintenance.is_alive()
    assert is_open(*sockets)
