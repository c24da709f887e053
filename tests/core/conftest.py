"""Fixtures of the core's tests: a harness, whose fake driver must not have been misused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fakes import ManualWorkers, PoolHarness

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def harness() -> Iterator[PoolHarness]:
    """A harness whose workers do their jobs at once."""
    harness = PoolHarness()
    yield harness
    assert harness.driver.faults == []


@pytest.fixture
def manual_harness() -> Iterator[PoolHarness]:
    """A harness whose workers do their jobs when the test says so."""
    harness = PoolHarness(ManualWorkers())
    yield harness
    assert harness.driver.faults == []
