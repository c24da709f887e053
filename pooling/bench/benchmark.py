"""A whole run: one database after the other, and all of it in one document."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import environment
from .document import make_document
from .runner import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from .databases import Arena
    from .plan import Plan
    from .results import Document, LeftOut
    from .runner import Step


def measure(
    plan: Plan,
    arenas: Sequence[AbstractContextManager[Arena]],
    on_step: Callable[[Step], None] = lambda _: None,
) -> Document:
    """Run a plan in each arena.

    Raises:
        ArenaError: an arena cannot be used, or not be cleaned up.
    """
    begin = time.monotonic()
    found = environment.describe()
    left_out: list[LeftOut] = []
    cells = []
    for opening in arenas:
        with opening as arena:
            found["servers"][arena.title] = arena.describe()
            cells += run(arena, plan, on_step, left_out)
    return make_document(plan, cells, found, left_out, time.monotonic() - begin)
