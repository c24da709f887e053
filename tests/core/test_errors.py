"""The pool's errors are the driver's errors too."""

from __future__ import annotations

import copy
import pickle
import sqlite3
import threading

import pytest

from pooling.core.errors import (
    LeaseError,
    PoolClosed,
    PoolError,
    PoolTimeout,
    TooManyWaiters,
    as_driver_error,
)
from tests.support.fakes import FakeDriver, FakeOperationalError, PoolHarness


@pytest.mark.parametrize("error", [PoolClosed, PoolTimeout, TooManyWaiters, LeaseError])
def test_every_error_is_a_pool_error(error: type[PoolError]) -> None:
    assert issubclass(error, PoolError)


def test_a_joined_error_is_caught_as_either_of_its_halves() -> None:
    joined = as_driver_error(PoolTimeout, sqlite3.OperationalError)
    for half in (PoolTimeout, sqlite3.OperationalError):
        with pytest.raises(half, match="too late"):
            raise joined("too late")


def test_a_joined_error_looks_like_the_pools_own() -> None:
    joined = as_driver_error(PoolTimeout, sqlite3.OperationalError)
    assert joined.__name__ == "PoolTimeout"
    assert joined.__doc__ == PoolTimeout.__doc__
    assert joined.__module__ == PoolTimeout.__module__


def test_errors_of_the_same_kind_share_one_class() -> None:
    joined = as_driver_error(PoolTimeout, sqlite3.OperationalError)
    assert as_driver_error(PoolTimeout, sqlite3.OperationalError) is joined
    assert as_driver_error(PoolClosed, sqlite3.OperationalError) is not joined
    assert as_driver_error(PoolTimeout, FakeOperationalError) is not joined


@pytest.mark.parametrize("driver_error", [Exception, PoolError])
def test_nothing_is_joined_where_the_pools_error_is_one_of_the_drivers(
    driver_error: type[Exception],
) -> None:
    assert as_driver_error(PoolTimeout, driver_error) is PoolTimeout


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_over_a_pickle_a_joined_error_becomes_its_pool_half(protocol: int) -> None:
    error = as_driver_error(PoolTimeout, sqlite3.OperationalError)("too late")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is PoolTimeout
    assert again.args == ("too late",)


def test_a_joined_error_can_be_copied() -> None:
    error = as_driver_error(PoolTimeout, sqlite3.OperationalError)("too late")
    assert copy.copy(error).args == ("too late",)


def test_a_pool_raises_errors_of_its_own_driver(harness: PoolHarness) -> None:
    class OtherError(Exception):
        pass

    class OtherDriver(FakeDriver):
        operational_error = OtherError

    harness.driver = OtherDriver()
    pool = harness.pool(max_size=1)
    with pool.acquire(), pytest.raises(OtherError) as caught:
        pool.acquire()
    assert isinstance(caught.value, PoolTimeout)
    assert not isinstance(caught.value, FakeOperationalError)


def test_two_threads_that_join_at_once_get_the_same_class() -> None:
    class NewError(Exception):
        pass

    together = threading.Barrier(8)
    joined = []

    def join() -> None:
        together.wait()
        joined.append(as_driver_error(PoolTimeout, NewError))

    threads = [threading.Thread(target=join) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(joined)) == 1
