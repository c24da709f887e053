"""The five lines say what the results say, and what they cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pooling.bench.aggregation import rank
from pooling.bench.verdict import verdict
from tests.bench.reports.samples import document, result

if TYPE_CHECKING:
    from pooling.bench.results import Document

ROUNDS = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.02]


def of(*results: Any, **changes: Any) -> list[str]:
    found: Document = {**document(), "results": list(results), "warnings": [], **changes}
    return verdict(found)


def rates(factor: float) -> dict[str, Any]:
    return {"rounds_ops_per_second": [factor * each for each in ROUNDS]}


def usual(**pooled: Any) -> list[Any]:
    return [
        result("stock", "connect", 8, **rates(310)),
        result("pooled", "connect", 8, **{"peak_connections": 4, **rates(4400), **pooled}),
        result("native", "connect", 8, rank=1, **rates(4390)),
    ]


def test_five_lines_with_gain_standing_connections_tail_and_limits() -> None:
    gain, others, connections, tail, limits = of(*usual())

    assert gain.startswith(
        "Gain (connect, 8 threads): PostgreSQL 14 (13-16) times Stock Django, p50 "
    )
    assert (
        others
        == "Other pools: PostgreSQL indistinguishable from Django's native pool: 1.00 (1.00-1.00)."
    )
    assert connections == (
        "Connections: 8 threads shared 4; Django's native pool held 8; "
        "Stock Django opened 1,600, one for each operation (PostgreSQL)."
    )
    assert tail.startswith(
        "Tail: PostgreSQL p99: pooling 0.241 ms (p99.9 0.402), Stock Django 3.42 ms"
    )
    tied = "which is best of pooling, Django's native pool (PostgreSQL)"
    assert limits == f"Not said: differences below 5%; {tied}."


def test_a_real_difference_between_pools_is_told() -> None:
    slower = result("native", "connect", 8, **rates(2200))
    found = of(*usual()[:2], slower)

    assert found[1] == "Other pools: PostgreSQL 2.0 (2.0-2.0) times Django's native pool."
    assert "which is best" not in found[-1]


def test_each_driver_has_its_standing() -> None:
    other = [{**each, "driver": "psycopg2"} for each in usual()]
    found = of(*usual(), *other)

    assert found[0].count("times Stock Django") == 2
    assert "; PostgreSQL with psycopg2 14 (13-16) times" in found[0]


@pytest.mark.parametrize(
    ("changes", "results", "words"),
    [
        ({"settings": {"quick": True}}, {}, "by --quick, what needs more rounds"),
        ({}, {"rounds": 3}, "how wide intervals are, from only 3 rounds"),
        ({}, {"errors": 3, "rank": None}, "what pooling would do without errors"),
        ({"interrupted": "interrupted"}, {}, "what was not measured: interrupted"),
        ({"warnings": ["the machine was busy"]}, {}, "the machine was busy"),
    ],
)
def test_what_cannot_be_said_is_said(
    changes: dict[str, Any], results: dict[str, Any], words: str
) -> None:
    assert words in of(*usual(**results), **changes)[-1]


def test_a_tail_that_is_not_known_is_not_shown() -> None:
    nothing = {"p99_ms": None, "p999_ms": None}
    found = of(*({**each, **nothing} for each in usual()))

    assert found[3] == "Tail: not known, p99 takes 1,000 operations."


def test_without_the_pool_there_is_a_ranking() -> None:
    found = of(result("stock", "connect", 8), result("native", "connect", 8))

    assert found == ["PostgreSQL, connect: 2. native, 3. stock."]


def test_ties_share_a_rank_and_those_with_errors_have_none() -> None:
    found: Any = [
        {"contender": name, "errors": errors, "ratio": ratio, "rank": None}
        for name, errors, ratio in (("a", 0, 2.0), ("b", 0, 2.02), ("c", 0, 1.0), ("d", 1, 9.0))
    ]
    by_round = {
        name: {number: factor * each for number, each in enumerate(ROUNDS)}
        for name, factor in (("a", 2.0), ("b", 2.02), ("c", 1.0), ("d", 9.0))
    }
    rank(found, by_round)

    assert {each["contender"]: each["rank"] for each in found} == {
        "a": 1,
        "b": 1,
        "c": 3,
        "d": None,
    }
