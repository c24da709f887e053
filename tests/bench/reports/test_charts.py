"""Charts: what is drawn is where the numbers say."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest

from pooling.bench.reports import layout
from pooling.bench.reports.charts import LEFT, RIGHT, Chart, charts, marks, scale
from pooling.bench.reports.html import render_chart
from tests.bench.reports.samples import document

SVG = "{http://www.w3.org/2000/svg}"


def charts_of(title: str) -> list[Chart]:
    given = document()
    [table] = [each for each in layout.tables(given) if each.title == title]
    return charts(given, table)


@pytest.mark.parametrize(
    ("low", "high"), [(0.9, 1.1), (0.7, 1.4), (1, 30), (0.01, 1000), (1e-6, 1e9), (3.1, 6.3)]
)
def test_marks_are_few_and_inside(low: float, high: float) -> None:
    found = marks(low, high)

    assert 1 <= len(found) <= 6
    assert found == sorted(found)
    assert low <= found[0]
    assert found[-1] <= high


def test_equal_factors_get_equal_room_and_equal_numbers_an_axis() -> None:
    across = scale([1, 10, 100])

    assert across(10) - across(1) == pytest.approx(across(100) - across(10), abs=0.2)
    assert scale([5, 5])(5) == pytest.approx((LEFT + RIGHT) / 2)


def test_a_table_has_a_chart_of_ratios_rates_and_times_with_their_intervals() -> None:
    ratios, rates, times = charts_of("PostgreSQL · Connect · 8 threads")

    assert [row.kind for row in ratios.rows if row.x is not None] == [
        "",
        "unclear",
        "baseline",
        "",
    ]
    for chart in (ratios, rates, times):
        shown = [row for row in chart.rows if row.x is not None]
        assert len(shown) == 4
        for row in shown:
            assert row.x is not None
            assert LEFT <= row.left <= row.x <= row.right <= RIGHT
        assert len({row.y for row in chart.rows}) == len(chart.rows)
    pooled = ratios.rows[1]
    assert (pooled.name, pooled.text) == ("pooling", "14 (13-16)")
    assert ratios.reference is not None
    assert rates.reference is None


def test_what_cannot_be_drawn_is_left_out() -> None:
    assert charts_of("PostgreSQL · Exhaustion · 5 threads") == []
    # Nothing but a baseline has no ratio to show.
    given = document()
    given["results"] = given["results"][:1]
    [table] = layout.tables(given)
    assert len(charts(given, table)) == 2


def test_a_chart_stands_alone_by_day_and_by_night_and_stays_inside() -> None:
    drawn = render_chart(charts_of("PostgreSQL · CRUD · 8 threads")[0])
    root = ET.fromstring(drawn)
    _x, _y, width, height = map(float, str(root.get("viewBox")).split())

    assert "prefers-color-scheme:dark" in drawn
    assert "url(" not in drawn
    assert drawn.count("http") == 1  # the namespace
    assert root.get("role") == "img"
    assert root.get("aria-label")
    for each in root.iter():
        for names, most in ((("x", "x1", "x2", "cx"), width), (("y", "y1", "y2", "cy"), height)):
            for name in names:
                value = float(each.get(name, 0))
                assert math.isfinite(value)
                assert 0 <= value <= most
    assert not re.search("nan|inf", re.sub(r"<style>.*?</style>", "", drawn, flags=re.DOTALL))
