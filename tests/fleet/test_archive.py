"""The history of all processes, which outlives them."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from pooling.core.histogram import BUCKETS
from pooling.fleet import archive as archives
from pooling.fleet.aggregate import aggregate
from pooling.fleet.archive import MAX_POOLS, TIERS, counted, is_archive, new_archive, roll
from pooling.fleet.cache_store import CacheStore
from pooling.fleet.history import COLUMNS, empty_row
from pooling.fleet.options import fleet_options
from tests.fleet.test_processes import TOTALS
from tests.metrics.samples import measured, pool, process
from tests.support.databases import eventually
from tests.support.freezing import suspended

if TYPE_CHECKING:
    from tests.fleet.conftest import Start

ID = pool()["id"]
NOW = 1_700_000_000.0
SLOT = int(NOW // 5)


def row(slot: int, **values: Any) -> list[Any]:
    return [slot, *(values.get(name, 0) for name in COLUMNS[:-1]), values.get("waits", {})]


def member(pid: int, *rows: list[Any], time: float = NOW, **stats: Any) -> dict[str, Any]:
    about = {**pool(**stats), "recent": list(rows)}
    return {**process(about, pid=pid, time=time), "started": time - 1}


def kinds(archive: dict[str, Any]) -> list[tuple[str, str]]:
    return [(event["kind"], event["text"]) for event in archive["events"]]


def values(archive: dict[str, Any], tier: str, name: str) -> list[Any]:
    return [each[1 + COLUMNS.index(name)] for each in archive["pools"][ID]["tiers"][tier]]


def test_peaks_are_those_of_the_sum_and_not_the_sum_of_peaks() -> None:
    """Two processes that are busy one after the other never used ten connections."""
    first = member(1, row(SLOT - 3, leased=5), row(SLOT - 2, leased=0))
    second = member(2, row(SLOT - 3, leased=0), row(SLOT - 2, leased=5))
    found = roll(new_archive(), [first, second], [], NOW)
    assert values(found, "5", "leased") == [5, 5]
    assert values(found, "600", "leased") == [5]


def test_each_slot_is_added_once_however_often_it_is_published() -> None:
    one = member(1, row(SLOT - 2, acquired=4, waits={"3": 1}), row(SLOT - 1, acquired=1))
    found = roll(new_archive(), [one], [], NOW)
    found = roll(found, [one], [], NOW + 5)
    assert values(found, "600", "acquired") == [5]
    assert values(found, "600", "waits") == [{"3": 1}]


def test_a_day_is_kept_in_bounded_size() -> None:
    found = new_archive()
    more = [pool(str(name)) for name in range(1, MAX_POOLS + 3)]
    for slot in range(SLOT, SLOT + 24 * 720 + 500, 20):
        rows = [row(slot + each, leased=3, acquired=1000, waits={"20": 9}) for each in range(20)]
        seen = process({**pool("0"), "recent": rows}, *more)
        found = roll(found, [seen], [], (slot + 20) * 5.0)
    assert len(found["pools"]) == MAX_POOLS
    tiers = found["pools"]["id of 0"]["tiers"]
    assert {tier: len(rows) for tier, rows in tiers.items()} == {
        tier: most for tier, (_, most) in TIERS.items()
    }
    assert len(json.dumps(found["pools"]["id of 0"])) < 30_000
    assert is_archive(json.loads(json.dumps(found)))


def test_what_a_process_counted_stays_when_it_has_left() -> None:
    found = roll(new_archive(), [member(1, timeouts=8), member(2, timeouts=1)], [], NOW)
    found = roll(found, [member(2, timeouts=2)], [], NOW + 5)
    assert counted(found, ID)["timeouts"] == 10
    [left] = found["left"]
    assert (left["pid"], left["totals"][ID]["timeouts"]) == (1, 8)
    assert kinds(found) == [
        *(("start", f"process {pid} started") for pid in (1, 2)),
        ("end", "process 1 left"),
    ]
    found = roll(found, [member(2, timeouts=2)], [], NOW + 10)
    assert counted(found, ID)["timeouts"] == 10


def test_the_last_numbers_of_a_process_that_ends_count() -> None:
    last = {**member(1, timeouts=9), "left": True}
    found = roll(new_archive(), [member(1, timeouts=8)], [], NOW)
    for later in (1, 2):
        found = roll(found, [last], [], NOW + later)
    assert counted(found, ID)["timeouts"] == 9
    short = {**member(3, timeouts=1), "left": True}
    assert counted(roll(found, [last, short], [], NOW + 3), ID)["timeouts"] == 10


def test_a_process_that_comes_back_is_not_counted_twice() -> None:
    found = roll(new_archive(), [member(1, timeouts=8)], [], NOW)
    found = roll(found, [], [], NOW + 5)
    found = roll(found, [member(1, timeouts=11)], [], NOW + 10)
    assert counted(found, ID)["timeouts"] == 11
    assert found["left"] == []


def test_totals_do_not_fall_when_a_pool_is_cleared_or_gone() -> None:
    found = roll(new_archive(), [member(1, acquired=8, holds=measured(1.0))], [], NOW)
    found = roll(found, [member(1, acquired=1)], [], NOW + 5)
    assert counted(found, ID)["acquired"] == 9
    assert counted(found, ID)["holds"]["count"] == 1
    without = {**member(1), "pools": []}
    found = roll(found, [without], [], NOW + 10)
    assert counted(found, ID)["acquired"] == 9


def command(action: str, at: float, **more: Any) -> dict[str, Any]:
    named = {"id": f"{action} {at}", "time": at, "action": action, "pool": ID, "process": None}
    return {**named, "user": "keeper", "arguments": {}, **more}


def test_clearing_begins_at_zero_and_keeps_what_is_counted() -> None:
    clear = command("clear", NOW + 1)
    found = roll(new_archive(), [member(1, timeouts=8)], [], NOW)
    found = roll(found, [member(1, timeouts=8)], [clear], NOW + 2)
    assert counted(found, ID)["timeouts"] == 0
    found = roll(found, [member(1, timeouts=9)], [clear], NOW + 5)
    assert counted(found, ID)["timeouts"] == 1
    [total] = aggregate([member(1, timeouts=9)], found)
    assert (total["stats"]["timeouts"], total["cleared_at"]) == (1, NOW + 1)


def test_commands_are_remembered_with_who_and_how_many_have_run_them() -> None:
    resize = command("resize", NOW, arguments={"max_size": 7})
    done = {**member(1), "done": [resize["id"]]}
    found = roll(new_archive(), [done, member(2)], [resize], NOW)
    found = roll(found, [done, member(2)], [], NOW + 120)
    [event] = [each for each in found["events"] if each["kind"] == "command"]
    assert (event["text"], event["user"], event["done"]) == ("resize (max_size=7)", "keeper", 1)


def test_outages_are_marked() -> None:
    one = member(1, row(SLOT - 3), row(SLOT - 2, down=1), row(SLOT - 1))
    found = roll(new_archive(), [one], [], NOW)
    assert [text for kind, text in kinds(found) if kind == "outage"] == [
        "server unreachable",
        "server reachable again",
    ]


def test_a_clock_that_is_set_back_does_no_harm() -> None:
    found = roll(new_archive(), [member(1, row(SLOT - 1, acquired=1))], [], NOW)
    before = NOW - 3600
    slot = int(before // 5)
    found = roll(found, [member(1, row(slot - 1, acquired=2), time=before)], [], before)
    assert values(found, "5", "acquired") == [2]


BAD = (
    *([], "x", {}, {"slot": 1}, {**new_archive(), "events": [7]}),
    {**new_archive(), "slot": float("inf")},
    {**new_archive(), "left": [{"host": "h", "totals": {}}]},
    {**new_archive(), "pools": {"x": {"name": "x"}}},
)


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_other_data_is_no_archive(bad: Any) -> None:
    assert not is_archive(bad)
    good = roll(new_archive(), [member(1, row(SLOT - 1))], [], NOW)
    assert is_archive(good)
    for wrong in ([1], empty_row(1)[:-1], [*empty_row(1)[:-1], {str(BUCKETS): 1}]):
        good["pools"][ID]["tiers"]["5"] = [wrong]
        assert not is_archive(good)


# ---- real processes ----------------------------------------------------------------------------

OFTEN = "setattr(__import__('pooling.fleet.cache_store').fleet.cache_store, 'ROLL_EVERY', 0.2)"


def waste(asked: Any, count: int) -> None:
    """Let callers time out there."""
    asked.ask("names.update(lease=get_pool().acquire())")
    for _ in range(count):
        found = asked.ask("get_pool().acquire(0)")
        assert "PoolTimeout" in found["raised"]
    asked.ask("lease.release()")


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_the_timeouts_of_a_process_outlive_it(start: Start, how: str) -> None:
    survivor, victim = start(max_size=1), start(max_size=1)
    # One database, or they would not be added up.
    shared = survivor.ask("connection.settings_dict['NAME']")
    victim.ask(f"connection.settings_dict.update(NAME={shared!r})")
    for each in (survivor, victim):
        each.ask(OFTEN)
        each.use()
    waste(victim, 8)
    seen = "fleet.read_all().archive['left']"
    eventually(lambda: survivor.ask(TOTALS)["timeouts"] == 8)
    if how == "killed":
        victim.kill()
    else:
        waste(victim, 1)  # immediately before its end, which it still tells
        assert victim.end() == ""
    expected = 8 if how == "killed" else 9
    [left] = eventually(lambda: survivor.ask(seen))
    assert left["pid"] == victim.pid
    assert [total["timeouts"] for total in left["totals"].values()] == [expected]
    assert survivor.ask(TOTALS)["timeouts"] == expected
    assert survivor.ask("len(fleet.read_all().processes)") == 1


def test_a_stopped_process_is_silent_and_comes_back(start: Start) -> None:
    first, second = start(), start()
    for each in (first, second):
        each.use()
    eventually(lambda: first.sees() == {first.pid, second.pid})
    silent = "[each['pid'] for each in fleet.read_all().processes if each['silent']]"
    with suspended(second.pid):
        eventually(lambda: first.ask(silent) == [second.pid])
        assert first.sees() == {first.pid}
    eventually(lambda: first.sees() == {first.pid, second.pid})
    assert first.ask(silent) == []


def test_the_history_is_written_by_one_process_at_a_time(shared_cache: None) -> None:
    store = CacheStore(fleet_options())
    store._cache.set(store._key("archive-lock"), "locked", 60)
    store.roll_archive([])
    assert store.read_all()[1] == archives.new_archive()
    store._cache.delete(store._key("archive-lock"))
    store.roll_archive([])
    assert store.read_all()[1]["slot"] > 0


def test_the_history_is_written_once_in_five_seconds_by_all_processes(shared_cache: None) -> None:
    """An addition reads everything: one by each of 200 processes would be a load of its own."""
    store, other = CacheStore(fleet_options()), CacheStore(fleet_options())
    store.roll_archive([])
    first = store.read_all()[1]
    other.roll_archive([])
    assert store.read_all()[1] == first
    store._cache.delete(store._key("archive-lock"))  # as its end does
    other.roll_archive([])
    assert store.read_all()[1]["time"] > first["time"]


def test_a_history_that_is_too_large_loses_the_pool_seen_longest_ago(
    shared_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CacheStore(fleet_options())
    pools = [{**pool(name), "recent": [row(SLOT - 1)]} for name in "abc"]
    archive = roll(new_archive(), [process(*pools)], [], NOW)
    archive["pools"]["id of b"]["seen"] -= 60
    whole = len(zlib.compress(json.dumps(archive).encode()))
    monkeypatch.setattr("pooling.fleet.cache_store.MAX_ARCHIVE", whole - 1)
    store._set_archive(archive)
    assert set(store.read_all()[1]["pools"]) == {"id of a", "id of c"}
