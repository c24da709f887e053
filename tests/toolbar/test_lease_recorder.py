"""The recorder of leases, and the middleware that tells the browser of them."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.http import HttpResponse
from django.test import AsyncClient, Client

from pooling.backends.lease_recorder import LeaseRecorder
from pooling.core.config import SCOPES
from pooling.core.errors import PoolTimeout
from pooling.middleware import ServerTimingMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import Database

QUERY = "SELECT 1"


@pytest.fixture(params=SCOPES)
def wrapper(request: pytest.FixtureRequest, database: Database) -> Iterator[Any]:
    with database.alias("pooled", pool={"scope": request.param}) as wrapper:
        yield wrapper


def test_leases_are_recorded_with_their_place(wrapper: Any) -> None:
    with LeaseRecorder() as recorder:
        for _ in range(2):
            with wrapper.cursor() as cursor:
                cursor.execute(QUERY)
        wrapper.close()
    wrapper.ensure_connection()
    leases = recorder.leases
    assert len(leases) == (2 if wrapper.plain_class else 1)
    for lease in leases:
        assert lease.alias == "pooled"
        assert lease.place.startswith(f"{__file__}:")
        assert lease.asked <= lease.began <= lease.ended
        assert lease.pin is None
    assert recorder.waited == sum(each.waited for each in leases)


def test_a_lease_that_goes_on_after_the_recording(wrapper: Any) -> None:
    with LeaseRecorder() as recorder:
        wrapper.ensure_connection()
    (lease,) = recorder.leases
    assert lease.ended is None
    assert lease.held > 0
    assert lease.pin == ("ensure_connection()" if wrapper.plain_class else None)
    wrapper.close()
    assert lease.ended is None
    assert not {"connect", "_release"} & vars(wrapper).keys()


def test_an_attempt_that_fails_has_waited(database: Database) -> None:
    options = {"max_size": 1, "timeout": 0.01}
    with database.alias("pooled", pool=options) as wrapper:
        database.warm(wrapper)
        held = wrapper.resolve_pool().acquire()
        with LeaseRecorder() as recorder, pytest.raises(PoolTimeout):
            wrapper.connect()
        held.release()
        (lease,) = recorder.leases
        assert lease.began is None
        assert lease.held == 0.0
        assert lease.waited == recorder.waited > 0


def test_recorders_may_be_nested(wrapper: Any) -> None:
    with LeaseRecorder() as outer:
        with LeaseRecorder() as inner:
            wrapper.ensure_connection()
            wrapper.close()
        wrapper.ensure_connection()
        wrapper.close()
    assert (len(outer.leases), len(inner.leases)) == (2, 1)
    assert all(each.ended is not None for each in (*outer.leases, *inner.leases))


def test_a_copy_of_a_recorded_wrapper_leases_for_itself(wrapper: Any) -> None:
    with LeaseRecorder() as recorder:
        duplicate = copy.copy(wrapper)
        duplicate.connect()
        assert wrapper.connection is None
        duplicate.close()
    assert recorder.leases == []


def test_a_database_that_cannot_be_loaded_is_left_to_whoever_uses_it(
    database: Database, wrapper: Any
) -> None:
    connections.settings["wrong"] = {**wrapper.settings_dict, "ENGINE": "no.such.engine"}
    try:
        with LeaseRecorder() as recorder:
            wrapper.ensure_connection()
            wrapper.close()
    finally:
        del connections.settings["wrong"]
    assert len(recorder.leases) == 1


# ---- Server-Timing ---------------------------------------------------------------------------


@pytest.fixture
def _middleware(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.toolbar.urls"
    settings.MIDDLEWARE = ["pooling.middleware.ServerTimingMiddleware"]


def expect_header(response: Any, leases: int) -> None:
    assert response.status_code == 200
    plural = "s" * (leases != 1)
    assert re.fullmatch(
        rf'pool;dur=\d+\.\d\d\d;desc="{leases} lease{plural}"', response["Server-Timing"]
    )


@pytest.mark.usefixtures("_middleware")
def test_server_timing(wrapper: Any) -> None:
    expect_header(Client().get("/query/"), 3 if wrapper.plain_class else 1)


@pytest.mark.usefixtures("_middleware")
def test_server_timing_of_an_asynchronous_view(wrapper: Any) -> None:
    expect_header(async_to_sync(AsyncClient().get)("/answer/"), 3 if wrapper.plain_class else 1)


@pytest.mark.usefixtures("_middleware")
def test_server_timing_is_added_to_what_is_there(wrapper: Any) -> None:
    def view(_request: Any) -> HttpResponse:
        return HttpResponse(headers={"Server-Timing": "db;dur=1"})

    response: Any = ServerTimingMiddleware(view)(None)  # type: ignore[arg-type]
    assert response["Server-Timing"] == 'db;dur=1, pool;dur=0.000;desc="0 leases"'
