"""The simulated fleet comes to rest, with fair shares and without end of connects."""

from __future__ import annotations

import pytest

from tests.benchmarks.budget import Simulation


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("processes", "limit", "demand", "shares"), [(40, 60, 10, (1, 2)), (10, 60, 10, (6, 6))]
)
def test_a_fleet_comes_to_rest(
    processes: int, limit: int, demand: int, shares: tuple[int, int], seed: int
) -> None:
    result = Simulation(processes, limit, demand, spread=1.0, seed=seed).run(120.0)
    assert (result.smallest, result.largest) == shares
    assert result.first < 4.0
    assert result.seconds < 15.0
    assert result.closed < 3 * limit
