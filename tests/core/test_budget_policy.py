"""The policy of a budget: max-min fair, never more than was asked for, and at rest once it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pooling.core import budget
from pooling.core.budget import POOL_BITS, Share, fair_share, may_hope, probe, use_of

if TYPE_CHECKING:
    from pooling.core.budget import Probe


def shares_of(*connections: int, wanting: set[int] | None = None) -> dict[int, Share]:
    """Return the shares of processes 0, 1, 2 ...; by default all of them want more."""
    return {
        number << POOL_BITS: Share(each, wanting is None or number in wanting)
        for number, each in enumerate(connections)
    }


def look(
    shares: dict[int, Share],
    process: int,
    limit: int,
    *,
    in_demand: bool = True,
    age: float = 60.0,
    luck: float = 0.99,
) -> Probe:
    return probe(
        shares, process << POOL_BITS, limit, in_demand=in_demand, age=age, random=lambda: luck
    )


@pytest.mark.parametrize(
    ("shares", "limit", "expected"),
    [
        (shares_of(10, 10, 0), 30, 10.0),
        (shares_of(20, 0), 20, 10.0),
        (shares_of(2, 18, 0, wanting={1, 2}), 20, 9.0),
        (shares_of(9, 1, 0, wanting={2}), 10, 4.5),
        (shares_of(1, 1, 0), 2, 2 / 3),
    ],
)
def test_who_wants_less_than_an_equal_share_leaves_the_rest(
    shares: dict[int, Share], limit: int, expected: float
) -> None:
    assert fair_share(shares.values(), limit) == pytest.approx(expected)


def test_nobody_gives_up_what_nobody_wants() -> None:
    shares = shares_of(9, 1, wanting=set())
    assert look(shares, 0, 10).ceiling is None
    assert not look(shares, 0, 10).give_up


def test_nobody_gives_up_what_is_free() -> None:
    shares = shares_of(7, 0)
    assert look(shares, 0, 10).ceiling is None


def test_what_is_above_the_share_is_given_up_at_once() -> None:
    assert look(shares_of(10, 0), 0, 10).ceiling == 5
    assert look(shares_of(6, 4, 0), 0, 10).ceiling == 4


def test_the_richest_gives_to_who_has_none() -> None:
    shares = shares_of(2, 2, 1, 0)  # a share is 1.25
    assert [look(shares, number, 5).give_up for number in range(3)] == [False, True, False]
    assert look(shares, 0, 5, luck=0.0).give_up  # sometimes although another is to
    assert not look(shares, 2, 5, luck=0.0).give_up


def test_what_differs_by_one_is_fair() -> None:
    shares = shares_of(2, 2, 1, 1)
    for process in range(4):
        assert not look(shares, process, 6, luck=0.0).give_up
        assert not may_hope(shares, process << POOL_BITS, 6)


def test_processes_beyond_the_budget_take_turns() -> None:
    shares = shares_of(1, 1, 0)
    assert look(shares, 1, 2, age=budget.TURN).give_up
    assert not look(shares, 1, 2, age=budget.TURN / 2).give_up
    assert look(shares, 1, 2, age=0.0, in_demand=False).give_up


def test_looks_and_attempts_of_a_fleet_are_bounded() -> None:
    assert budget.probe_pause(5, lambda: 0.5) == budget.PROBE_PAUSE
    assert 2_000 / budget.probe_pause(2_000, lambda: 0.5) <= budget.PROBES_PER_SECOND
    few, many = budget.MOST_WANTING // 2, budget.MOST_WANTING * 2
    assert budget.attempt_pause(0.0, many, hopeful=True) == budget.ATTEMPT_PAUSE
    assert budget.attempt_pause(4.0, many, hopeful=True) == 8.0
    assert budget.attempt_pause(4.0, few, hopeful=True) == 2.0
    assert budget.attempt_pause(50.0, many, hopeful=True) == budget.LONGEST_ATTEMPT_PAUSE
    assert budget.attempt_pause(0.0, 1, hopeful=False) == budget.HOPELESS_PAUSE
    assert budget.attempt_pause(4.0, 1, hopeful=False) == 8.0


def test_the_pools_of_a_process_count_as_one() -> None:
    shares = {0: Share(2, wants=True), 1: Share(1, wants=False), 1 << POOL_BITS: Share(0, True)}
    assert str(use_of(shares, 4)) == "budget 3 of 4 used by 1 process"
    assert use_of(shares, 4).wanting == 2


DEMANDS = st.lists(st.integers(0, 12), min_size=1, max_size=12)


@given(demands=DEMANDS, limit=st.integers(1, 40), rotate=st.integers(0, 11))
def test_a_fleet_comes_to_rest_at_shares_that_are_fair(
    demands: list[int], limit: int, rotate: int
) -> None:
    """However it begins: everybody has what it wants, or as much as the others, give or take one.

    Not with fewer connections than processes, which take turns.
    """
    has = [0] * len(demands)
    for process in range(len(demands)):  # the first come takes everything
        number = (process + rotate) % len(demands)
        has[number] = min(demands[number], limit - sum(has))

    def shares() -> dict[int, Share]:
        return {
            number << POOL_BITS: Share(each, each < demand)
            for number, (each, demand) in enumerate(zip(has, demands, strict=True))
        }

    for _ in range(200):
        before = list(has)
        for number in range(len(demands)):
            found = look(shares(), number, limit, in_demand=True, age=0.0, luck=0.5)
            if found.ceiling is not None:
                has[number] = min(has[number], found.ceiling)
            has[number] -= found.give_up
        for number in sorted(range(len(demands)), key=lambda each: has[each]):
            pool = number << POOL_BITS
            if shares()[pool].wants and may_hope(shares(), pool, limit):
                has[number] += use_of(shares(), limit).used < limit
        assert sum(has) <= limit
        if has == before:
            break
    else:
        pytest.fail(f"no rest: {has}")
    assert sum(has) == min(limit, sum(demands))
    poor = [each for each, demand in zip(has, demands, strict=True) if each < demand]
    if sum(demand > 0 for demand in demands) <= limit:
        assert max(has) - min(poor, default=max(has)) <= 1
