"""The entries in the cache, and caches that fail, hang or are not shared."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.core import checks
from django.core.cache import caches
from django.core.cache.backends.filebased import FileBasedCache

from pooling import fleet
from pooling.checks import check_setting
from pooling.fleet import commands
from pooling.fleet.archive import new_archive
from pooling.fleet.cache_store import CALLS, INDEX_PARTS, MAX_CALLS, CacheStore
from pooling.fleet.commands import CommandLog
from pooling.fleet.options import fleet_options
from pooling.fleet.publisher import Publisher
from pooling.fleet.schema import is_snapshot
from tests.support.databases import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from django.conf import LazySettings

    from tests.fleet.conftest import Start

BACKENDS = "django.core.cache.backends."


class BrokenCache(FileBasedCache):
    """Fails with a text that holds a secret."""

    def get(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("redis://:geheim@host is unreachable")

    set = get_many = get


class HangingCache(FileBasedCache):
    """Answers when the test says so."""

    gate = threading.Event()

    def get(self, *args: Any, **kwargs: Any) -> Any:
        self.gate.wait(60)
        return super().get(*args, **kwargs)


@pytest.fixture
def use_cache(settings: LazySettings, tmp_path: Path) -> Any:
    def use(backend: str, location: str = "") -> None:
        location = location or str(tmp_path / "cache")
        settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": location}}

    return use


PREFIX = "test_cache_store"


@pytest.fixture
def store(shared_cache: None) -> CacheStore:
    """A store of the test's own: this process may be publishing under the default prefix."""
    return CacheStore(dataclasses.replace(fleet_options(), prefix=PREFIX))


def entry(id_: str) -> dict[str, Any]:
    return {
        "id": id_,
        "host": "host",
        "pid": 1,
        "command": "manage.py",
        "python": "3.11",
        "started": 0.0,
        "time": time.time(),
        "threads": 1,
        "left": False,
        "done": [],
        "pools": [],
    }


def command(time: float) -> dict[str, Any]:
    named: dict[str, Any] = {"id": "x", "action": "drain", "pool": "p", "process": None, "user": ""}
    named |= {"lease": None, "configured": None}
    return {**named, "time": time, "arguments": {}}


def ids(store: CacheStore) -> set[str]:
    return {found["id"] for found in store.read()}


@pytest.mark.parametrize(
    ("backend", "word"),
    [
        ("locmem.LocMemCache", "LocMemCache"),
        ("dummy.DummyCache", "DummyCache"),
        ("db.DatabaseCache", "needs a database connection"),
    ],
)
def test_some_caches_show_one_process(use_cache: Any, backend: str, word: str) -> None:
    use_cache(BACKENDS + backend, "somewhere")
    seen = fleet.read_all()
    assert fleet.sees_one_process()
    assert len(seen.processes) == 1
    assert word in (seen.isolation_reason or "")
    fleet.send("drain", "there is no such pool")


def test_publishing_can_be_turned_off(shared_cache: None, settings: LazySettings) -> None:
    assert not fleet.sees_one_process()
    settings.POOLING = {"publish_every": None}
    assert "publish_every" in (fleet.read_all().isolation_reason or "")


def test_a_missing_cache_alias_is_named(settings: LazySettings) -> None:
    settings.POOLING = {"cache": "elsewhere"}
    assert "'elsewhere'" in (fleet.read_all().isolation_reason or "")


@pytest.mark.parametrize(
    "backend", ["redis.RedisCache", "memcached.PyLibMCCache"], ids=["redis", "pylibmc"]
)
def test_a_cache_whose_package_is_missing_is_named(
    use_cache: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
) -> None:
    package = {"redis.RedisCache": "redis", "memcached.PyLibMCCache": "pylibmc"}[backend]
    monkeypatch.setitem(sys.modules, package, None)
    use_cache(BACKENDS + backend, "redis://:geheim@127.0.0.1:1/0")
    reason = fleet.read_all().isolation_reason
    assert reason is not None
    assert reason.startswith("CACHES['default'] cannot be loaded: ")
    assert package in reason
    publisher = Publisher()
    for _ in range(2):
        publisher._exchange()
    [logged] = [record.message for record in caplog.records if "published" in record.message]
    assert logged == f"the connection pools cannot be published: {reason}"
    [found] = check_setting(None)
    assert (found.id, found.level) == ("pooling.E003", checks.ERROR)
    assert found.msg == f"POOLING['cache']: {reason}"
    assert "geheim" not in reason


def test_a_process_that_the_index_lost_comes_back(
    store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pooling.fleet.cache_store.INDEX_PARTS", 1)
    store.publish(entry("a"))
    store.publish(entry("b"))
    assert ids(store) == {"a", "b"}
    # 1. a reads the index. 2. b enters itself. 3. a writes what it read, without b.
    caches["default"].set(f"{PREFIX}:fleet:index:0", json.dumps({"a": time.time()}), 60)
    assert ids(store) == {"a"}
    store.publish(entry("b"))
    assert ids(store) == {"a", "b"}


MALFORMED = (
    *("[]", "{", "null", "7", '"text"', '{"a": "yesterday"}'),
    '{"id": "x", "time": 1.0}',
    '{"id": "x", "time": 1.0, "host": "h", "pid": 1, "pools": [7]}',
    '{"time": 1e999, "id": "x", "pools": {}}',
    '{"time": 1%s, "id": "x", "host": "h", "command": "", "python": ""}' % ("0" * 400),
    "[" * 100_000,
)


@pytest.mark.parametrize("malformed", MALFORMED)
def test_malformed_data_in_the_cache_is_ignored(store: CacheStore, malformed: str) -> None:
    parts = [f"index:{number}" for number in range(INDEX_PARTS)]
    for key in (*parts, "commands", "archive", "process:a"):
        caches["default"].set(f"{PREFIX}:fleet:{key}", malformed, 60)
    assert store.read() == []
    assert store.read_all() == ([], new_archive(), [])
    store.publish(entry("a"))
    assert ids(store) == {"a"}


def test_a_snapshot_of_another_version_is_left_out(start: Start) -> None:
    """During a deployment, processes of the old version and of the new one share the cache."""
    member = start()
    member.use()
    own = member.ask("fleet.processes()[0]")
    assert own["pools"]
    assert own.pop("age") == 0
    assert own.pop("silent") is False
    assert is_snapshot(own)
    for part in (own, own["pools"][0], own["pools"][0]["stats"], own["pools"][0]["stats"]["waits"]):
        for key in list(part):
            value = part.pop(key)
            assert not is_snapshot(own), key
            part[key] = value
    assert is_snapshot(own)


def test_an_overwritten_command_is_published_again(store: CacheStore) -> None:
    log = CommandLog()
    log.add_sent(command(time.time()))
    log.publish(store)
    store.set_commands([], 60)
    log.publish(store)
    assert [command["id"] for command in store.commands()] == ["x"]


def test_a_command_expires(store: CacheStore) -> None:
    log = CommandLog()
    old = time.time() - commands.COMMAND_LIFETIME - 1
    log.add_sent(command(old))
    assert log.publish(store) == []


@pytest.mark.parametrize(
    ("action", "arguments", "text"),
    [
        ("explode", {}, "unknown action"),
        ("drain", {"max_size": 3}, "takes no max_size"),
        ("resize", {}, "needs min_size or max_size"),
        ("resize", {"max_size": 0}, "at least 1"),
        ("resize", {"min_size": 5, "max_size": 4}, "must not exceed"),
        ("resize", {"size": 4}, "takes no size"),
    ],
)
def test_invalid_commands_are_refused(action: str, arguments: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        fleet.send(action, "there is no such pool", **arguments)


def test_a_failing_cache_is_reported_without_its_error_text(use_cache: Any) -> None:
    use_cache(f"{__name__}.BrokenCache")
    seen = fleet.read_all()
    assert len(seen.processes) == 1
    assert seen.problem == "the cache failed: ConnectionError"
    with pytest.raises(fleet.FleetError, match="ConnectionError"):
        fleet.send("drain", "there is no such pool")


@pytest.fixture
def hanging(use_cache: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    use_cache(f"{__name__}.HangingCache")
    gate = threading.Event()
    monkeypatch.setattr(HangingCache, "gate", gate)
    monkeypatch.setattr("pooling.fleet.cache_store.READ_TIMEOUT", 0.05)
    yield gate
    gate.set()


def test_a_hanging_cache_is_not_waited_for(hanging: threading.Event) -> None:
    assert "did not answer" in (fleet.read_all().problem or "")


def test_readers_of_a_hanging_cache_do_not_collect_threads(hanging: threading.Event) -> None:
    before = threading.active_count()
    problems = [fleet.read_all().problem for _ in range(3 * MAX_CALLS)]
    assert problems[-1] == f"the cache has not answered {MAX_CALLS} earlier calls"
    assert threading.active_count() <= before + MAX_CALLS
    hanging.set()
    eventually(lambda: fleet.read_all().problem is None)


def test_a_cache_that_cannot_be_closed_can_be_used(
    use_cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a client whose server is away may fail to be."""

    def fail() -> None:
        raise ConnectionError

    use_cache(BACKENDS + "filebased.FileBasedCache")
    with monkeypatch.context() as patch:
        patch.setattr("pooling.fleet.cache_store.caches.close_all", fail)
        publisher = Publisher()
        publisher._busy = True
        publisher._exchange()
        assert not publisher._busy
        for _ in range(MAX_CALLS + 1):
            assert fleet.read_all().problem is None


def test_an_interrupted_reader_leaves_no_call_behind(
    use_cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(job: object) -> None:
        raise KeyboardInterrupt

    use_cache(BACKENDS + "filebased.FileBasedCache")
    monkeypatch.setattr("pooling.fleet.cache_store.WORKERS.run", interrupt)
    before = CALLS.running.copy()
    with pytest.raises(KeyboardInterrupt):
        fleet.read_all()
    assert CALLS.running <= before


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Publisher:
    """A publisher of the test's own, which always finds a pool."""
    monkeypatch.setattr("pooling.fleet.publisher.REGISTRY.pools", lambda: [object()])
    publisher = Publisher()
    monkeypatch.setattr(publisher, "_sample", lambda pools: None)
    monkeypatch.setattr("pooling.fleet.publisher.snapshot", lambda: entry("me"))
    # What other tests have sent within the minute is not for that object.
    monkeypatch.setattr("pooling.fleet.publisher.COMMAND_LOG", CommandLog())
    return publisher


def test_the_scheduler_does_not_wait_for_a_hanging_cache(
    hanging: threading.Event, publisher: Publisher
) -> None:
    assert publisher.maintain() is not None
    assert publisher._busy
    publisher._next = 0.0
    assert publisher.maintain() is not None  # and no second worker hangs as well
    hanging.set()
    eventually(lambda: not publisher._busy)
    assert ids(CacheStore(fleet_options())) == {"me"}


def test_a_failing_cache_is_logged_once(
    use_cache: Any,
    publisher: Publisher,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "pooling")
    use_cache(f"{__name__}.BrokenCache")
    for _ in range(3):
        publisher._exchange()
    use_cache(BACKENDS + "filebased.FileBasedCache")
    for _ in range(2):
        publisher._exchange()
    said = [record.message for record in caplog.records if "published" in record.message]
    assert said == [
        "the connection pools cannot be published: ConnectionError",
        "the connection pools are published again",
    ]
    assert "geheim" not in caplog.text
