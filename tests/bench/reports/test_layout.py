"""What stands together in every report, and how a result reads."""

from __future__ import annotations

from typing import Any

import pytest

from pooling.bench.reports import layout
from pooling.bench.reports.layout import knee
from tests.bench.reports.samples import document, result


def test_results_of_the_same_work_are_a_table_and_levels_stay_apart() -> None:
    tables = layout.tables(document())

    assert [each.title for each in tables][:3] == [
        "SQLite · CRUD · 1 thread",
        "SQLite · CRUD · 8 threads",
        "PostgreSQL · CRUD · 1 thread",
    ]
    assert [section.label for section in tables[2].sections] == [
        "read, through Django's ORM, psycopg",
        "read, below the ORM, psycopg2",
        "total, through Django's ORM, psycopg",
        "total, below the ORM, psycopg2",
    ]


def test_the_totals_stand_for_a_workload_of_several_operations() -> None:
    table = layout.tables(document())[2]

    operations = {each["operation"] for section in table.main() for each in section.results}
    assert operations == {"total"}


def test_sweeps_are_kept_apart_with_a_section_for_each_value() -> None:
    *_, iterations, sizes = layout.tables(document())

    assert iterations.title == "PostgreSQL · Connect · 1 thread · by iterations"
    assert [each.label.partition(",")[0] for each in sizes.sections] == [
        f"pool-size {value}" for value in (1, 2, 4, 8, 16)
    ]


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ({"baseline": True, "ratio": 1.0}, "baseline"),
        ({"ratio": 17.0, "ratio_low": 15.0, "ratio_high": 19.0}, "17 (15-19)"),
        ({"ratio": 17.1, "ratio_low": 17.02, "ratio_high": 17.31}, "17 (17.0-17.3)"),
        ({"ratio": 1.0, "ratio_low": 0.9, "ratio_high": 1.1}, "1.00 (0.90-1.10) ?"),
        ({"ratio": 3.0, "ratio_low": None}, "3.0"),
        ({"ratio": None, "ratio_low": None}, "–"),  # noqa: RUF001 - an en dash
    ],
)
def test_a_ratio_shows_its_interval_and_whether_it_is_clear(
    figures: dict[str, Any], text: str
) -> None:
    assert layout.ratio(result("pooled", "connect", 8, **figures)) == text


def test_contenders_with_errors_stand_apart_at_the_end() -> None:
    given = document()
    for each in given["results"]:
        each["errors"] = 1 if each["contender"] == "pooled" else 0
    section = layout.tables(given)[2].sections[0]

    assert [row[0] for row in section.rows] == ["Django's native pool", "Stock Django", "pooling"]
    assert section.rows[-1][1] == "failed"


def test_the_knee_is_the_smallest_pool_that_is_nearly_as_good_as_the_best() -> None:
    points = [(1, 100.0), (2, 190.0), (4, 385.0), (8, 400.0), (16, 390.0)]

    assert knee(points) == 4
    assert knee(points[:1]) is None
    assert knee([]) is None


def test_there_is_no_knee_where_the_throughput_still_grows() -> None:
    assert knee([(1, 100.0), (4, 400.0), (8, 800.0)]) is None


def test_a_sweep_of_the_size_names_the_knee_and_the_rule_of_thumb() -> None:
    given = document()
    *others, sizes = layout.tables(given)

    assert layout.knees(given, sizes) == [
        ("knee of pooling", "4 connections"),
        ("rule of thumb", "5 connections"),
    ]
    assert [layout.knees(given, each) for each in others] == [[] for _ in others]
    for each in given["results"]:
        if each["sweep"]:
            each["ops_per_second"] = 1000.0 * each["sweep"]["value"]
    assert layout.knees(given, sizes)[0] == ("knee of pooling", "none: it still gains")
