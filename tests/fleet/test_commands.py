"""Which commands a process follows, those that are older than itself in particular."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from pooling import fleet
from pooling.fleet.commands import CommandLog, _lives, _without_superseded

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.databases import SqliteDatabase


def resize(
    number: int, age: float, configured: dict[str, int] | None, **more: Any
) -> dict[str, Any]:
    return {
        "id": f"resize {number}",
        "action": "resize",
        "pool": "sized",
        "process": None,
        "lease": None,
        "user": "",
        "time": time.time() - age,
        "configured": configured,
        "arguments": {"max_size": number},
        **more,
    }


SETTINGS = {"min_size": 0, "max_size": 4}
OTHERS = {"min_size": 0, "max_size": 5}


@pytest.mark.parametrize(
    ("sent", "size"),
    [
        pytest.param(lambda: [resize(7, 3600, SETTINGS)], 7, id="the settings are the same"),
        pytest.param(lambda: [resize(7, 3600, OTHERS)], 4, id="they have changed since"),
        pytest.param(lambda: [resize(7, 3600, None)], 4, id="they are not known"),
        pytest.param(lambda: [resize(7, 10, OTHERS)], 7, id="it is new, so all follow"),
        pytest.param(
            lambda: [resize(7, 60, SETTINGS), resize(8, 90, SETTINGS)], 7, id="the last one"
        ),
        pytest.param(lambda: [resize(7, 10, SETTINGS, process="another")], 4, id="another's"),
    ],
)
def test_which_resize_a_new_process_follows(
    sqlite: SqliteDatabase, sent: Callable[[], list[dict[str, Any]]], size: int
) -> None:
    wrapper = sqlite.wrapper(pool={"max_size": 4, "name": "sized"})
    wrapper.ensure_connection()
    pool = wrapper.resolve_pool()
    log, commands = CommandLog(), sent()
    log.execute(*commands)
    assert pool.config.max_size == size
    pool.resize(max_size=9)
    log.execute(*commands)
    assert pool.config.max_size == 9, "each of them is followed once"


def test_a_pool_that_is_opened_later_follows_too(sqlite: SqliteDatabase) -> None:
    log = CommandLog()
    log.execute(resize(7, 100, SETTINGS))
    wrapper = sqlite.wrapper(pool={"max_size": 4, "name": "sized"})
    wrapper.ensure_connection()
    log.execute(resize(7, 100, SETTINGS))
    assert wrapper.resolve_pool().config.max_size == 7


def test_only_the_last_resize_is_kept_and_only_for_a_day() -> None:
    drain = {**resize(1, 30, None), "action": "drain", "arguments": {}}
    old, new, other = (
        resize(1, 50, SETTINGS),
        resize(2, 40, SETTINGS),
        resize(3, 30, SETTINGS, pool="b"),
    )
    assert _without_superseded([old, new, other, drain]) == [new, other, drain]
    now = time.time()
    lives = [_lives(each, now) for each in (new, resize(1, 86390, SETTINGS))]
    ended = [resize(1, 86410, SETTINGS), resize(1, 61, None), {**drain, "time": now - 61}]
    assert lives == [True, True]
    assert not any(_lives(each, now) for each in ended)


@pytest.mark.parametrize(
    "arguments",
    [("cancel", {}), ("terminate", {"lease": "1"}), ("drain", {"process": "1", "lease": "1"})],
)
def test_an_action_on_a_lease_names_it(arguments: tuple[str, dict[str, str]]) -> None:
    action, where = arguments
    with pytest.raises(ValueError, match="cancel and terminate are for the lease of a process"):
        fleet.send(action, "default", **where)  # type: ignore[arg-type]
