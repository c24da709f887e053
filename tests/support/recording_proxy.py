"""What really goes over the wire: a proxy that writes everything down before it goes on."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from tests.support.fault_proxy import Direction, FaultProxy

if TYPE_CHECKING:
    from tests.support.fault_proxy import Link


class Piece(NamedTuple):
    """Bytes that came from one side."""

    link: Link
    direction: Direction
    data: bytes


class RecordingProxy(FaultProxy):
    """A proxy with a memory.

    When a client has read an answer, its question and that answer have been written down.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self._pieces: list[Piece] = []

    def note(self, link: Link, direction: Direction, data: bytes) -> None:
        self._pieces.append(Piece(link, direction, data))

    def mark(self) -> int:
        """Return where we are, for `sent` and `round_trips`."""
        return len(self._pieces)

    def sent(self, since: int = 0) -> bytes:
        """Return what clients have sent since a mark."""
        pieces = self._pieces[since:]
        return b"".join(piece.data for piece in pieces if piece.direction == "to server")

    def sent_by_each(self) -> list[bytes]:
        """Return what came from each client so far, in the order in which they began to speak."""
        said: dict[Link, bytes] = {}
        for link, direction, data in list(self._pieces):
            if direction == "to server":
                said[link] = said.get(link, b"") + data
        return list(said.values())

    def round_trips(self, since: int = 0) -> int:
        """Return how often a client has asked and the server has answered since a mark.

        With one client at a time: several answers to what was sent in one go are one round trip.
        """
        asked = [piece.direction == "to server" for piece in self._pieces[since:]]
        return sum(before and not after for before, after in itertools.pairwise(asked))
