"""Nothing that may take time, and nothing of the user's, happens while the pool's lock is held."""

from __future__ import annotations

import linecache
from typing import TYPE_CHECKING, Any

import pytest

from pooling.core.errors import PoolTimeout
from tests.support.fakes import FakeOperationalError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooling.core.pool import Pool
    from tests.support.fakes import PoolHarness


def time_out(pool: Pool[Any]) -> None:
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=1.0)


@pytest.mark.parametrize(
    "act", [time_out, lambda pool: pool.holders()[0].stack, lambda pool: pool._tasks.maintain()]
)
def test_no_source_file_is_looked_at_under_the_lock(
    harness: PoolHarness, monkeypatch: pytest.MonkeyPatch, act: Callable[[Pool[Any]], object]
) -> None:
    """With `leak_after` stacks are recorded and shown, for which `linecache` reads files."""
    looks: list[bool] = []
    for name in ("checkcache", "getlines"):
        original = getattr(linecache, name)

        def watched(*args: Any, original: Any = original) -> Any:
            looks.append(pool._lock_is_mine())
            return original(*args)

        monkeypatch.setattr(linecache, name, watched)
    pool = harness.pool(max_size=1, leak_after=10.0)
    lease = pool.acquire()
    harness.clock.advance(10.0)
    act(pool)
    assert looks
    assert not any(looks)
    lease.release()


@pytest.mark.parametrize("kind", [RefusedError, FakeOperationalError])
def test_an_error_of_the_driver_is_not_asked_for_its_words_under_the_lock(
    harness: PoolHarness, kind: type[FakeOperationalError]
) -> None:
    looks: list[bool] = []

    class Talkative(kind):  # type: ignore[misc, valid-type]
        def __str__(self) -> str:
            looks.append(pool._lock_is_mine())
            return "the server said no"

    pool = harness.pool(timeout=1.0)
    harness.driver.always("connect", Talkative())
    with pytest.raises(FakeOperationalError if kind is FakeOperationalError else PoolTimeout):
        pool.acquire()
    assert pool.stats().last_error == "the server said no"
    assert looks
    assert not any(looks)


def test_an_error_without_words_costs_no_place(harness: PoolHarness) -> None:
    class SpeechlessError(FakeOperationalError):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    pool = harness.pool(max_size=1)
    harness.driver.plan("connect", SpeechlessError())
    with pytest.raises(SpeechlessError):
        pool.acquire()
    assert pool.stats().size == 0
    assert pool.stats().last_error == "SpeechlessError"
    pool.acquire().release()
