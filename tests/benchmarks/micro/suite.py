"""A whole run: one contest after the other, and all of it in one document."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pooling.bench import environment
from pooling.bench.databases import ArenaError
from pooling.bench.places import private_arena

from .results import make_document
from .runner import Found, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pooling.bench.databases import Arena

    from .contest import Contest
    from .results import MicroDocument
    from .runner import Amount


def measure(
    contests: Sequence[Contest],
    amount: Amount,
    on_contest: Callable[[Contest], None] = lambda _contest: None,
) -> MicroDocument:
    """Run contests. A database that cannot be had is reported, and the other contests go on."""
    begin = time.monotonic()
    about = environment.describe()
    arenas: dict[str, Arena] = {}
    refusals: dict[str, str] = {}
    found = []
    with ExitStack() as stack:
        for contest in contests:
            on_contest(contest)
            vendor = contest.arena
            if vendor and vendor not in arenas and vendor not in refusals:
                try:
                    arena = stack.enter_context(private_arena(vendor))
                    about["servers"][arena.title] = arena.describe()
                    arenas[vendor] = arena
                except ArenaError as error:
                    refusals[vendor] = str(error)
            if vendor in refusals:
                reasons = dict.fromkeys((side.name for side in contest.sides), refusals[vendor])
                found.append(Found(contest, problems=reasons))
            else:
                found.append(run(contest, amount, arenas.get(vendor)))
    return make_document(found, amount, about, time.monotonic() - begin)
