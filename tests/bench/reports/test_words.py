"""Numbers in, sentences out."""

from __future__ import annotations

from typing import Any

import pytest

from pooling.bench.reports import words
from pooling.bench.reports.document import Report, Result, read
from tests.bench.reports.samples import result


def made(**figures: Any) -> Result:
    return read({"results": [result("pooled", "connect", 8) | figures]}).results[0]


def reported(*results: dict[str, Any]) -> tuple[Report, tuple[Result, ...]]:
    names = {"stock": "stock", "pooled": "pooled", "native": "native"}
    report = read(
        {
            "results": list(results),
            "contenders": [{"name": name, "title": title} for name, title in names.items()],
        }
    )
    return report, report.results


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        (
            {"ratio": 17.04, "ratio_low": 15.2, "ratio_high": 19.3},
            "pooled is 17 times as fast as stock here, between 15 and 19.",
        ),
        (
            {"ratio": 0.62, "ratio_low": 0.55, "ratio_high": 0.7},
            "pooled is 0.62 times as fast as stock here, between 0.55 and 0.70.",
        ),
        (
            {"ratio": 1.02, "ratio_low": 0.94, "ratio_high": 1.11},
            (
                "pooled and stock cannot be told apart here: "
                "1.02 times as fast, between 0.94 and 1.11."
            ),
        ),
        (
            {"ratio": 2.31, "ratio_low": None, "ratio_high": None},
            "pooled is 2.3 times as fast as stock here; how sure that is, is not known.",
        ),
        (
            {"ratio": None},
            "pooled cannot be compared with stock here: there is no ratio.",
        ),
        (
            {"ratio": 17.1, "ratio_low": 17.02, "ratio_high": 17.31},
            "pooled is 17 times as fast as stock here, between 17.0 and 17.3.",
        ),
    ],
)
def test_a_ratio_is_said_with_its_interval(figures: dict[str, Any], sentence: str) -> None:
    assert words.compare(made(**figures), "pooled", "stock") == sentence


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, words.UNKNOWN),
        (0.0, "0"),
        (0.00042, "0.00042"),
        (0.0312, "0.031"),
        (0.5, "0.500"),
        (1.236, "1.24"),
        (9.999, "10.0"),
        (17.26, "17.3"),
        (99.97, "100"),
        (1480.4, "1,480"),
    ],
)
def test_numbers_have_about_three_digits(value: float | None, text: str) -> None:
    assert words.short(value) == text


def test_long_times_are_told_in_seconds() -> None:
    assert words.milliseconds(30_000.0) == "30.0 s"
    assert words.milliseconds(1.5) == "1.50 ms"


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ({"baseline": True, "ratio": 1.0}, "baseline"),
        ({"ratio": 17.0, "ratio_low": 15.0, "ratio_high": 19.0}, "17 (15-19)"),
        ({"ratio": 1.0, "ratio_low": 0.9, "ratio_high": 1.1}, "1.00 (0.90-1.10) ?"),
        ({"ratio": 3.0, "ratio_low": None}, "3.0"),
        ({"ratio": None}, words.UNKNOWN),
    ],
)
def test_a_ratio_in_a_table_shows_whether_it_is_clear(figures: dict[str, Any], text: str) -> None:
    assert words.ratio(made(**figures)) == text


def test_findings_begin_with_the_fastest_and_leave_out_the_baseline() -> None:
    report, results = reported(
        result("stock", "connect", 1) | {"ops_per_second": 300.0},
        result("native", "connect", 1)
        | {"ops_per_second": 3000.0, "ratio": 10.0, "ratio_low": 9.0, "ratio_high": 11.0},
        result("pooled", "connect", 1)
        | {"ops_per_second": 3600.0, "ratio": 12.0, "ratio_low": 11.1, "ratio_high": 12.6},
    )

    assert words.findings(report, results) == [
        "pooled is 12 times as fast as stock here, between 11 and 13.",
        "native is 10 times as fast as stock here, between 9.0 and 11.",
    ]
    assert words.fastest(report, results) == (
        "pooled did the most, 3,600 operations per second; next is native with 3,000."
    )


def test_a_close_second_is_called_close() -> None:
    report, results = reported(
        result("native", "connect", 1)
        | {"ops_per_second": 3500.0, "ratio": 11.7, "ratio_low": 11.0, "ratio_high": 12.2},
        result("pooled", "connect", 1)
        | {"ops_per_second": 3600.0, "ratio": 12.0, "ratio_low": 11.5, "ratio_high": 12.6},
    )

    assert words.fastest(report, results).endswith(
        "but native is so close that their intervals overlap."
    )


def test_a_contender_that_is_spared_the_orm_is_said_to_be() -> None:
    given = [
        result("stock", "connect", 1),
        result("asyncpg", "connect", 1) | {"ratio": 30.0, "ratio_low": 29.0, "ratio_high": 31.0},
    ]
    contenders = [{"name": "stock", "level": "orm"}, {"name": "asyncpg", "level": "driver"}]
    report = read({"results": given, "contenders": contenders})

    assert words.findings(report, report.results) == [
        "asyncpg is 30 times as fast as stock here, between 29 and 31.",
        "These are spared the work of the ORM, which the baseline does.",
    ]


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        ({"errors": 0}, ""),
        ({"errors": 3, "operations": 97}, "pooled: 3 of 100 operations failed."),
        ({"errors": 1, "operations": None}, "pooled: 1 operation failed."),
    ],
)
def test_errors_are_counted_among_what_was_tried(figures: dict[str, Any], sentence: str) -> None:
    assert words.errors(made(**figures), "pooled") == sentence


def test_connections_are_listed_by_their_number() -> None:
    report, results = reported(
        result("stock", "connect", 1) | {"connections_opened": 1600},
        result("pooled", "connect", 1) | {"connections_opened": 4},
        result("native", "connect", 1) | {"connections_opened": 4},
    )

    assert words.connections(report, results) == (
        "Connections opened at the server: 4 by pooled, native; 1,600 by stock."
    )


def test_an_uneven_share_of_turns_is_put_into_a_picture() -> None:
    uneven = result("pooled", "contention", 32) | {"fairness": 0.25}
    report, results = reported(uneven)

    assert words.fairness(report, results) == (
        "The least even is pooled with an index of 0.25: as if 8 of 32 threads had done all the "
        "work."
    )
    assert "evenly" in words.fairness(*reported(uneven | {"fairness": 0.99}))


def test_tails_are_told_for_the_shortest_and_the_longest() -> None:
    report, results = reported(
        result("stock", "connect", 1) | {"p50_ms": 3.0, "p99_ms": 9.0},
        result("pooled", "connect", 1) | {"p50_ms": 0.2, "p99_ms": 0.5},
    )

    assert words.latency(report, results) == (
        "Shortest tail: pooled, half within 0.200 ms, 99 of 100 within 0.500 ms. "
        "Longest: stock, half within 3.00 ms, 99 of 100 within 9.00 ms."
    )


def test_scaling_compares_the_ends_and_names_the_best() -> None:
    rates = {1: 1000.0, 8: 3000.0, 32: 2500.0}
    report, results = reported(
        *(result("pooled", "connect", n) | {"ops_per_second": rate} for n, rate in rates.items())
    )

    assert words.scaling(report, "pooled", results) == (
        "pooled: 2.5 times the throughput with 32 threads of what it is with 1, most with 8."
    )


def test_the_knee_is_the_smallest_pool_that_is_nearly_as_good_as_the_best() -> None:
    points = [(1, 100.0), (2, 190.0), (4, 385.0), (8, 400.0), (16, 390.0)]

    assert words.knee(points) == 4
    assert words.knee(points[:1]) is None
    assert words.knee([]) is None
    assert words.sizing("pooled", points, 5) == (
        "pooled: from 4 connections on, a larger pool gains at most 5 %, up to the 16 "
        "measured; that is fewer than the rule of thumb says (5)."
    )
    assert words.sizing("pooled", points, None).endswith("up to the 16 measured.")


def test_there_is_no_knee_where_the_throughput_still_grows() -> None:
    points = [(1, 100.0), (4, 400.0), (8, 800.0)]

    assert words.knee(points) is None
    assert words.sizing("pooled", points, 5) == (
        "pooled: still gaining at the largest pool measured, 8 connections; there is no knee."
    )


def test_the_rule_of_thumb_needs_the_number_of_cores() -> None:
    assert words.rule_of_thumb(2) == 5
    assert words.rule_of_thumb(None) is None


def test_the_growth_names_both_ends() -> None:
    assert words.growth("pooled", [(1, 1.04), (10, 6.0), (1000, 16.8)]) == (
        "pooled: 1.04 times the baseline with 1 operation, 17 times with 1,000."
    )
    assert words.growth("pooled", [(1, 1.04)]) == ""
