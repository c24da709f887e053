"""Every test of the core gets a lab, and the lab's driver must not have been misused in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.core.fakes import Lab, ManualWorkers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab whose workers do their jobs at once."""
    lab = Lab()
    yield lab
    assert lab.driver.faults == []


@pytest.fixture
def slow_lab() -> Iterator[Lab]:
    """A lab whose workers do their jobs when the test says so."""
    lab = Lab(ManualWorkers())
    yield lab
    assert lab.driver.faults == []
