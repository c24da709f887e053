"""The one formatter: numbers, durations and texts as people read them."""

from __future__ import annotations

import pytest

from pooling import formatting
from pooling.formatting import NOTHING


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, NOTHING),
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
    assert formatting.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, NOTHING), (1234.5, "1,234"), (17.04, "17"), (2.31, "2.3"), (0.62, "0.62")],
)
def test_factors_have_about_two_digits(value: float | None, text: str) -> None:
    assert formatting.factor(value) == text


def test_the_ends_of_an_interval_differ_as_shown() -> None:
    assert formatting.interval(15.1, 18.9) == ("15", "19")
    assert formatting.interval(17.02, 17.31) == ("17.0", "17.3")
    assert formatting.interval(1.0, 1.0) == ("1.00", "1.00")
    assert formatting.interval(None, None) == (NOTHING, NOTHING)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, NOTHING),
        (0.00025, "250 µs"),
        (0.0015, "1.5 ms"),
        (0.25, "250 ms"),
        (2.5, "2.5 s"),
        (30, "30 s"),
        (125, "2 min 5 s"),
        (7260, "2 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_have_a_unit_that_fits(seconds: float | None, text: str) -> None:
    assert formatting.duration(seconds) == text


def test_counts_and_plurals_have_separators() -> None:
    assert formatting.count(1600) == "1,600"
    assert formatting.count(None) == NOTHING
    assert formatting.plural(1, "process", "processes") == "1 process"
    assert formatting.plural(2000, "process", "processes") == "2,000 processes"
    assert formatting.plural(2, "thread") == "2 threads"


def test_a_text_is_one_line_of_bounded_length_without_control_characters() -> None:
    assert formatting.one_line(" a\n\tb\x1b[31m\u202ec ") == "a b [31m c"
    assert formatting.one_line("x" * 200, 10) == "xxxxxxx..."
