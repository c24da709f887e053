"""Scales and shapes: what is drawn is where the numbers say."""

from __future__ import annotations

import math

import pytest

from pooling.bench.reports.charts import scales, svg
from pooling.bench.reports.charts.rows import hill


@pytest.mark.parametrize("high", [0.0003, 0.9, 1.0, 7.0, 99.0, 12_345.0, 3e7])
def test_ticks_are_few_round_and_inside(high: float) -> None:
    found = scales.ticks(high)

    assert found[0] == 0
    assert 2 <= len(found) <= 6
    assert found[-1] <= high


@pytest.mark.parametrize(
    ("low", "high"), [(0.9, 1.1), (0.7, 1.4), (1, 30), (0.01, 1000), (1e-6, 1e9), (3.1, 6.3)]
)
def test_logarithmic_ticks_are_few_and_inside(low: float, high: float) -> None:
    found = scales.log_ticks(low, high)

    assert 1 <= len(found) <= 6
    assert found == sorted(found)
    assert low <= found[0]
    assert found[-1] <= high


def test_a_logarithmic_scale_gives_equal_factors_equal_room() -> None:
    scale = scales.logarithmic([1, 100], 0, 200, 1.0)

    assert [scale(each) for each in (1, 10, 100)] == pytest.approx([0, 100, 200])


def test_equal_numbers_get_an_axis_all_the_same() -> None:
    scale = scales.logarithmic([5, 5], 0, 100)

    assert scale(5) == pytest.approx(50)
    assert scale.high / scale.low == pytest.approx(2)


def test_nothing_is_drawn_beyond_the_ends() -> None:
    scale = scales.linear([10], 0, 100)

    assert scale(-5) == 0
    assert scale(1e9) == 100


def test_a_scale_without_numbers_works() -> None:
    assert scales.linear([], 0, 10)(0) == 0
    assert math.isfinite(scales.logarithmic([], 0, 10)(1))


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.05, "0.05"), (20.0, "20"), (1500.0, "1.5k"), (2e6, "2M")]
)
def test_labels_are_short(value: float, text: str) -> None:
    assert scales.label(value) == text


def test_a_hill_has_the_area_of_its_counts() -> None:
    scale = scales.logarithmic([1, 1000], 0, 300, 1.0)
    outline = hill([(1, 0), (10, 10), (100, 30), (1000, 10)], scale, 50, 30)
    tops = {round(50 - y, 3) for _x, y in outline}

    assert tops == {0, 10, 30}
    assert outline[0][1] == outline[-1][1] == 50


def test_a_hill_shows_the_gaps_between_its_bins() -> None:
    scale = scales.logarithmic([1, 10_000], 0, 400, 1.0)
    outline = hill([(10, 5), (100, 5), (10_000, 5)], scale, 50, 30)

    assert (pytest.approx(200), 50) in [(x, y) for x, y in outline]
    assert (pytest.approx(300, abs=2), 50) in [(x, y) for x, y in outline]


def test_an_empty_histogram_has_no_hill() -> None:
    assert hill([], scales.linear([1], 0, 1), 0, 1) == []
    assert hill([(1, 0)], scales.linear([1], 0, 1), 0, 1) == []


def test_attributes_and_texts_are_escaped() -> None:
    drawn = svg.element("text", svg.quote("<b>&\x00"), class_='"x"', aria_label="<")

    assert drawn == '<text class="&quot;x&quot;" aria-label="&lt;">&lt;b&gt;&amp; </text>'
