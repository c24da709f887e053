"""Which options a pool takes."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from pooling.core.config import OPTIONS, PoolConfig
from pooling.core.errors import PoolConfigError, PoolError

COUNTS = {"min_size": 0, "max_size": 1, "max_waiting": 0, "max_uses": 1}
"""The options that are whole numbers, with the smallest value of each."""

DURATIONS = ("timeout", "recycle", "max_idle", "fail_fast", "ping_after", "leak_after")
OPTIONAL = {*DURATIONS, "budget", "max_waiting", "max_uses", "connect_params"}


def problems_of(**options: Any) -> dict[str, str]:
    with pytest.raises(PoolConfigError) as caught:
        PoolConfig(**options)
    return dict(caught.value.problems)


def test_the_defaults_are_the_documented_ones() -> None:
    assert dataclasses.asdict(PoolConfig()) == {
        "min_size": 1,
        "max_size": 10,
        "timeout": 30.0,
        "recycle": 3600.0,
        "max_idle": 600.0,
        "fail_fast": 10.0,
        "max_waiting": None,
        "max_uses": None,
        "ping_after": 30.0,
        "reset": "rollback",
        "scope": "request",
        "connect_params": None,
        "replay_reads": False,
        "budget": None,
        "leak_after": None,
        "name": "pool",
    }


def test_a_config_cannot_be_changed() -> None:
    config = PoolConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.max_size = 3  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        config.max_sise = 3  # type: ignore[attr-defined]


def test_options_are_given_by_name_only() -> None:
    with pytest.raises(TypeError):
        PoolConfig(1, 10)  # type: ignore[misc]


def test_equal_options_make_equal_configs() -> None:
    assert PoolConfig(max_size=3) == PoolConfig(max_size=3) != PoolConfig(max_size=4)
    assert hash(PoolConfig(max_size=3)) == hash(PoolConfig(max_size=3))


def test_a_copy_with_one_option_changed_is_checked_again() -> None:
    config = PoolConfig(min_size=2, max_size=4)
    assert dataclasses.replace(config, max_size=3).max_size == 3
    with pytest.raises(PoolConfigError):
        dataclasses.replace(config, max_size=1)


@pytest.mark.parametrize(("option", "smallest"), COUNTS.items())
def test_a_count_may_be_its_smallest_value_and_no_less(option: str, smallest: int) -> None:
    assert getattr(PoolConfig(**{"min_size": 0, option: smallest}), option) == smallest
    assert str(smallest) in problems_of(**{option: smallest - 1})[option]


@pytest.mark.parametrize("option", COUNTS)
@pytest.mark.parametrize("value", [True, False, "3", 3.0, float("nan"), b"3", [3]])
def test_a_count_must_be_a_whole_number(option: str, value: object) -> None:
    problem = problems_of(**{option: value})[option]
    assert problem.startswith("must be a whole number of at least ")
    assert str(value) in problem


@pytest.mark.parametrize("option", DURATIONS)
@pytest.mark.parametrize("value", [0.001, 1, 5.5, 1e9])
def test_a_duration_may_be_any_positive_number(option: str, value: float) -> None:
    assert getattr(PoolConfig(**{option: value}), option) == value


@pytest.mark.parametrize("option", DURATIONS)
@pytest.mark.parametrize(
    "value", [-1, -0.001, float("nan"), float("inf"), float("-inf"), True, False, "30", b"1", [1]]
)
def test_a_duration_must_be_a_finite_number_and_not_negative(option: str, value: object) -> None:
    problem = problems_of(**{option: value})[option]
    assert problem.startswith("must be a number of seconds ")
    assert str(value) in problem


@pytest.mark.parametrize("option", DURATIONS)
def test_a_duration_that_no_float_can_hold_is_a_problem_too(option: str) -> None:
    assert problems_of(**{option: 10**400})[option].startswith("must be a number of seconds ")


@pytest.mark.parametrize("option", sorted(set(DURATIONS) - {"ping_after", "fail_fast"}))
def test_no_duration_may_be_zero(option: str) -> None:
    assert "above 0" in problems_of(**{option: 0})[option]


@pytest.mark.parametrize("option", ["ping_after", "fail_fast"])
def test_these_two_may_be_zero(option: str) -> None:
    """ "Test every time", and "fail with the first error"."""
    assert getattr(PoolConfig(**{option: 0}), option) == 0


@pytest.mark.parametrize("option", sorted(OPTIONAL))
def test_none_means_no_limit(option: str) -> None:
    assert getattr(PoolConfig(**{option: None}), option) is None


@pytest.mark.parametrize("option", sorted(set(OPTIONS) - OPTIONAL))
def test_the_other_options_cannot_be_none(option: str) -> None:
    assert "None" in problems_of(**{option: None})[option]


def test_min_size_may_be_max_size_and_no_more() -> None:
    assert PoolConfig(min_size=4, max_size=4).min_size == 4
    assert problems_of(min_size=5, max_size=4) == {
        "min_size": "must not exceed max_size, but 5 > 4",
    }


def test_sizes_that_are_wrong_in_themselves_are_not_compared() -> None:
    assert list(problems_of(min_size=5, max_size=0)) == ["max_size"]
    assert list(problems_of(min_size="5", max_size=1)) == ["min_size"]


@pytest.mark.parametrize("reset", ["rollback", "session", "shop.database.reset"])
def test_reset_is_a_known_word_or_a_dotted_path(reset: str) -> None:
    assert PoolConfig(reset=reset).reset == reset


@pytest.mark.parametrize("reset", ["sesion", "", ".", ".reset", True, 1, print])
def test_anything_else_is_no_reset(reset: object) -> None:
    problem = problems_of(reset=reset)["reset"]
    assert "'rollback', 'session', 'always' or the dotted path" in problem


@pytest.mark.parametrize("name", ["", "  ", 7, True, b"default"])
def test_a_name_is_a_text_that_is_not_empty(name: object) -> None:
    assert problems_of(name=name)["name"].startswith("must be a text")


def test_all_problems_are_reported_together_and_in_order() -> None:
    problems = problems_of(min_size=-1, max_size=True, timeout="5", reset="no", name="")
    assert list(problems) == ["min_size", "max_size", "timeout", "reset", "name"]


def test_a_wrong_type_is_named_where_the_value_looks_right() -> None:
    problems = problems_of(max_size="10", timeout=True)
    assert problems["max_size"].endswith("not the string '10'")
    assert problems["timeout"].endswith("not the boolean True")


def test_the_error_is_a_pool_error_and_a_value_error_whose_text_has_every_problem() -> None:
    with pytest.raises(PoolConfigError) as caught:
        PoolConfig(max_size=0, timeout=-1)
    assert isinstance(caught.value, PoolError)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value) == (
        "max_size: must be a whole number of at least 1, not 0; "
        "timeout: must be a number of seconds above 0, or None for no limit, not -1"
    )


@pytest.mark.parametrize("duplicate", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_the_error_can_be_copied_and_pickled(duplicate: Any) -> None:
    error = PoolConfigError((("max_size", "is odd"), ("name", "is even")))
    again = duplicate(error)
    assert type(again) is PoolConfigError
    assert again.problems == error.problems
    assert str(again) == str(error)


def test_a_scope_and_a_reset_that_fits_it() -> None:
    assert PoolConfig(scope="transaction", reset="session").scope == "transaction"
    for options, option in (({"scope": "statement"}, "scope"), ({"scope": "transaction"}, "reset")):
        with pytest.raises(PoolConfigError) as caught:
            PoolConfig(**options)  # type: ignore[arg-type]
        assert [name for name, _ in caught.value.problems] == [option]
