"""Charts: what is drawn is where the numbers say."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest

from pooling.bench.reports import layout
from pooling.bench.reports.charts import CURVES, LEFT, RIGHT, Chart, chart, marks, scale
from pooling.bench.reports.html import render_chart
from tests.bench.reports.samples import document

SVG = "{http://www.w3.org/2000/svg}"


def chart_of(title: str) -> Chart | None:
    given = document()
    [table] = [each for each in layout.tables(given) if each.title == title]
    return chart(given, table)


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
    across = scale([1, 10, 100], LEFT, RIGHT)

    assert across(10) - across(1) == pytest.approx(across(100) - across(10), abs=0.2)
    assert scale([5, 5], LEFT, RIGHT)(5) == pytest.approx((LEFT + RIGHT) / 2)


def test_a_table_has_a_chart_of_ratios_with_their_intervals() -> None:
    ratios = chart_of("PostgreSQL · Connect · 8 threads")

    assert ratios is not None
    shown = [row for row in ratios.rows if row.x is not None]
    assert [row.kind for row in shown] == ["", "unclear", "baseline", ""]
    for row in shown:
        assert row.x is not None
        assert LEFT <= row.left <= row.x <= row.right <= RIGHT
    assert len({row.y for row in ratios.rows}) == len(ratios.rows)
    assert (ratios.rows[1].name, ratios.rows[1].text) == ("pooling", "14 (13-16)")
    assert ratios.rows[-1].text.endswith("214 errors")
    assert ratios.reference is not None


@pytest.mark.parametrize(
    ("title", "sweep", "names"),
    [
        ("PostgreSQL · Connect · 1 thread · by iterations", "iterations", ["pooling", "Stock"]),
        ("PostgreSQL · Connect · 32 threads · by pool-size", "pool-size", ["pooling"]),
    ],
)
def test_a_sweep_is_a_curve_for_each_contender(title: str, sweep: str, names: list[str]) -> None:
    drawn = chart_of(title)

    assert drawn is not None
    assert drawn.title == CURVES[sweep]
    assert [each.name.partition(" ")[0] for each in drawn.curves] == names
    for curve in drawn.curves:
        places = [x for x, _y, _low, _high in curve.dots]
        assert places == sorted(places)
        for _x, y, low, high in curve.dots:
            assert low >= y >= high  # downwards on a screen
    assert drawn.heights
    ET.fromstring(render_chart(drawn))


def test_what_cannot_be_drawn_is_left_out() -> None:
    assert chart_of("PostgreSQL · Exhaustion · 5 threads") is None
    # Nothing but a baseline has no ratio to show.
    given = document()
    given["results"] = given["results"][:1]
    [table] = layout.tables(given)
    assert chart(given, table) is None


def test_a_chart_stands_alone_by_day_and_by_night_and_stays_inside() -> None:
    found = chart_of("PostgreSQL · CRUD · 8 threads")
    assert found is not None
    drawn = render_chart(found)
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
