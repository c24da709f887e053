"""Readiness: a load balancer is told that the server is down, and nothing is asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError
from django.test import Client

from pooling.metrics import readiness
from tests.support.databases import PostgresDatabase, eventually

if TYPE_CHECKING:
    from tests.support.fault_proxy import FaultProxy

pytest_plugins = ["tests.support.fault_fixtures"]

TOKEN = "a-token-that-is-long-enough"
POOL = {"name": "served", "fail_fast": 0}


@pytest.fixture(autouse=True)
def _open(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.metrics.urls"
    settings.POOLING = {"metrics_token": TOKEN}


def get() -> tuple[int, Any]:
    response = Client(headers={"Authorization": f"Bearer {TOKEN}"}).get("/pooling/ready")
    return response.status_code, response.json()


def query(database: PostgresDatabase, **pool: Any) -> None:
    wrapper = database.wrapper("served", pool={**POOL, **pool})
    try:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        wrapper.close()


def is_answered(database: PostgresDatabase) -> bool:
    try:
        query(database)
    except OperationalError:  # it is too early for the next attempt
        return False
    return True


def take_down(database: PostgresDatabase, proxy: FaultProxy, **pool: Any) -> None:
    proxy.refuse()
    proxy.drop()
    with pytest.raises(OperationalError):
        query(database, **pool)


def test_it_is_closed_by_default(settings: Any) -> None:
    settings.POOLING = {}
    assert Client().get("/pooling/ready").status_code == 403


def test_a_process_is_ready_until_its_server_is_known_to_be_down(
    proxied: PostgresDatabase, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    assert get() == (200, {"ready": True, "down": {}})
    query(proxied)
    assert get()[0] == 200
    take_down(proxied, proxy)
    pool: Any = proxied.wrapper("served", pool=POOL).resolve_pool()
    eventually(lambda: pool.stats().connecting == 0)  # an attempt for nobody may be under way
    errors = pool.stats().connect_errors
    caplog.clear()
    for _ in range(5):
        status, answer = get()
        assert (status, answer["ready"], list(answer["down"])) == (503, False, ["served"])
    assert pool.stats().connect_errors == errors, "it has not tried to connect"
    logged = [record for record in caplog.records if record.name == "django.request"]
    assert logged == [], "an administrator has not got a mail for each"
    proxy.serve()
    eventually(lambda: is_answered(proxied))
    assert get() == (200, {"ready": True, "down": {}})


def test_a_pool_that_keeps_connections_finds_its_server_again_without_requests(
    proxied: PostgresDatabase, proxy: FaultProxy
) -> None:
    query(proxied, min_size=1)
    take_down(proxied, proxy, min_size=1)
    assert get()[0] == 503
    proxy.serve()
    eventually(lambda: get()[0] == 200)


def test_a_pool_that_keeps_none_gets_requests_again(
    proxied: PostgresDatabase, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_down(proxied, proxy)
    assert get()[0] == 503
    monkeypatch.setattr(readiness, "KNOWN_FOR", 0.0)
    assert get()[0] == 200


def test_a_replica_that_is_down_does_not_matter(
    proxied: PostgresDatabase, proxy: FaultProxy, settings: Any
) -> None:
    settings.POOLING = {"metrics_token": TOKEN, "replicas": {"default": ["served"]}}
    take_down(proxied, proxy)
    assert get()[0] == 200
