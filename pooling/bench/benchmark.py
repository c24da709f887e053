"""A whole run: one kind of database after the other, all in one document."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import environment
from .aggregation import make_document
from .runner import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from .databases import DatabaseProvider
    from .plan import Plan
    from .results import Document, LeftOut
    from .runner import Step


def measure(
    plan: Plan,
    providers: Sequence[AbstractContextManager[DatabaseProvider]],
    on_step: Callable[[Step], None] = lambda _: None,
) -> Document:
    """Run a plan with each provider.

    Raises:
        SetupError: a database could not be made, or not be removed.
    """
    begin = time.monotonic()
    found = environment.describe()
    left_out: list[LeftOut] = []
    cells = []
    for opening in providers:
        with opening as provider:
            found["servers"][provider.title] = provider.describe()
            cells += run(provider, plan, on_step, left_out)
    return make_document(plan, cells, found, left_out, time.monotonic() - begin)
