"""Probes for the tests of the micro suite; they know no Django, as those of the core do not."""

from __future__ import annotations

import os
from typing import Any

from tests.benchmarks.micro.probes.base import Probe


class Steady(Probe):
    """A probe that measures what it is told."""

    def __init__(self, figure: float = 1.0) -> None:
        self.figure = figure

    def trial(self, number: int) -> dict[str, float]:
        return {"seconds": self.figure, "number": number}


class Other(Steady):
    """One with another name."""


class Numbered(Steady):
    """One that tells its process."""

    def trial(self, number: int) -> dict[str, float]:
        return {"seconds": 1.0, "process": os.getpid()}


class Failing(Steady):
    """One that works until it is measured."""

    def trial(self, number: int) -> dict[str, float]:
        raise ValueError("no more")


class Dying(Steady):
    """One whose process ends."""

    def trial(self, number: int) -> dict[str, float]:
        os._exit(3)


class Picky(Steady):
    """One that cannot even begin."""

    def __init__(self, **options: Any) -> None:
        raise ValueError("not here")
