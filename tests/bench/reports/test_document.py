"""A document is read whatever state it is in."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pooling.bench.reports.document import baseline_of, by_level, read
from tests.bench.reports.samples import document, result


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"results": None, "contenders": None, "environment": None},
        {"results": "text", "contenders": 3, "warnings": {"a": 1}, "settings": []},
        {"results": [None, 3, "x", [], {}]},
        {"results": [{"histogram": [[1], "ab", None, [None, 2], [-1, 3]], "sweep": "iterations"}]},
    ],
)
def test_what_is_missing_or_odd_becomes_nothing(odd: dict[str, Any]) -> None:
    report = read(odd)

    assert all(each.histogram == () and each.sweep is None for each in report.results)
    assert report.left_out == ()


def test_numbers_that_are_none_of_them_are_unknown() -> None:
    each = result("pooled", "connect", 1)
    each |= {"ops_per_second": math.nan, "p50_ms": math.inf, "threads": True, "ratio": 0.0}

    [found] = read({"results": [each]}).results

    assert (found.ops_per_second, found.p50_ms, found.threads, found.ratio) == (None,) * 4


def test_the_totals_stand_for_a_workload_of_several_operations() -> None:
    crud, *_others = read(document()).groups()

    assert crud.operations == ("insert", "read", "update", "delete", "total")
    assert {each.operation for each in crud.main} == {"total"}


def test_levels_stay_apart_and_have_their_own_baseline() -> None:
    group = read(document()).groups()[0]
    [(orm, through), (driver, below)] = by_level(group.main)

    assert (orm, driver) == ("orm", "driver")
    assert {baseline_of(each, group.main) for each in through} == {through[0]}
    assert {baseline_of(each, group.main) for each in below} == {below[0]}


def test_a_level_without_a_baseline_refers_to_the_others() -> None:
    given = document()
    given["results"] = [each for each in given["results"] if each["contender"] != "bare"]
    group = read(given).groups()[0]
    below = dict(by_level(group.main))["driver"]

    assert baseline_of(below[0], group.main) == group.main[0]


def test_a_title_that_would_break_a_sentence_is_put_in_brackets() -> None:
    report = read({"contenders": [{"name": "a", "title": "pooling, psycopg 3"}, {"name": "b"}]})

    assert [report.title(name) for name in "abc"] == ["pooling (psycopg 3)", "b", "c"]


def test_sweeps_are_kept_apart_and_in_order() -> None:
    report = read(document())

    assert [key[3] for key in report.sweeps()] == ["iterations", "pool-size"]
    for results in report.sweeps().values():
        values = [each.sweep[1] for each in results if each.sweep]
        assert values == sorted(values)
    assert all(each.sweep is None for group in report.groups() for each in group.results)
