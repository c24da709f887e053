"""What the addresses answer with, and that it is true."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from pooling import activity
from tests.metrics.test_exposition import values

if TYPE_CHECKING:
    from tests.support.databases import Database, PostgresDatabase
    from tests.support.mariadb import MariaDatabase

TOKEN = "a-token-that-is-long-enough"
PLANTED = "planted-s3cret-passw0rd"


@pytest.fixture(autouse=True)
def _open(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.metrics.urls"
    settings.POOLING = {"metrics_token": TOKEN}


def get(url: str, accept: str = "*/*") -> Any:
    client = Client(headers={"Authorization": f"Bearer {TOKEN}", "Accept": accept})
    response = client.get(url)
    assert response.status_code == 200
    return response


def test_the_format_is_the_one_that_was_asked_for() -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.3"
    openmetrics, plain = get("/pooling/metrics", accept), get("/pooling/metrics")

    assert openmetrics["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.content.endswith(b"# EOF\n")
    assert plain["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert list(read_openmetrics(openmetrics.content.decode()))
    assert list(read_prometheus(plain.content.decode()))


def test_head_is_allowed_and_post_is_not() -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}

    assert Client().head("/pooling/metrics", headers=headers).status_code == 200
    assert Client().post("/pooling/metrics", headers=headers).status_code == 405


def test_at_a_quiet_moment_the_numbers_are_those_of_pg_stat_activity(
    postgresql: PostgresDatabase,
) -> None:
    wrappers = [postgresql.wrapper(pool={"name": "quiet"}) for _ in range(5)]
    for wrapper in wrappers:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
    for wrapper in wrappers[2:]:
        wrapper.close()
    with wrappers[0].cursor() as cursor:
        cursor.execute("BEGIN")  # so that the server, too, tells leased from idle
    with wrappers[1].cursor() as cursor:
        cursor.execute("BEGIN")
    states = dict(
        postgresql.execute(
            "SELECT state, count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND backend_type = 'client backend' AND application_name <> 'observer' GROUP BY 1"
        )
    )
    found = values(get("/pooling/metrics").content.decode(), read_prometheus)
    ours = {
        key[-1]: value
        for key, value in found.items()
        if key[:2] == ("pooling_connections", "quiet")
    }
    stats = pool_in_json("quiet")["stats"]

    assert states == {"idle": 3, "idle in transaction": 2}
    assert ours == {"idle": 3, "used": 2, "connecting": 0}
    assert (stats["size"], stats["idle"], stats["leased"]) == (5, 3, 2)


def test_mariadb_s_pool_is_counted_and_named_as_mysql(mariadb: MariaDatabase) -> None:
    wrappers = [mariadb.wrapper(pool={"name": "maria"}) for _ in range(2)]
    for wrapper in wrappers:
        mariadb.session(wrapper)
    wrappers[1].close()
    text = get("/pooling/metrics").content.decode()
    found = values(text, read_prometheus)
    ours = {
        key[-1]: value
        for key, value in found.items()
        if key[:2] == ("pooling_connections", "maria")
    }
    pool = pool_in_json("maria")

    assert ours == {"idle": 1, "used": 1, "connecting": 0}
    assert len(mariadb.sessions()) == 2
    assert (pool["vendor"], pool["database"]) == ("mysql", mariadb.entry["NAME"])
    assert mariadb.entry["PASSWORD"] not in text + json.dumps(pool)


def pool_in_json(name: str) -> Any:
    processes = json.loads(get("/pooling/metrics.json").content)["processes"]
    (pool,) = [pool for process in processes for pool in process["pools"] if pool["name"] == name]
    return pool


def test_the_json_has_the_numbers_and_no_holders(database: Database) -> None:
    wrapper = database.wrapper(pool={"name": "numbers", "leak_after": 60})
    with activity.doing("/reset/a-token-in-a-path/"):
        wrapper.ensure_connection()
    answer = get("/pooling/metrics.json").content
    pool = pool_in_json("numbers")

    assert set(pool) == {
        *("id", "name", "aliases", "vendor", "database", "host", "port", "user"),
        *("options", "stats", "state"),
    }
    assert pool["state"] == "ok"
    assert pool["stats"]["leased"] == 1
    assert pool["options"]["leak_after"] == 60
    assert b"a-token-in-a-path" not in answer
    assert b"test_views.py" not in answer


def test_no_secret_of_the_settings_is_in_any_answer(
    postgresql: PostgresDatabase, settings: Any
) -> None:
    settings.SECRET_KEY = PLANTED
    settings.POOLING = {"metrics_token": TOKEN}
    postgresql.execute(f"CREATE ROLE planted LOGIN PASSWORD '{PLANTED}'")
    try:
        wrapper = postgresql.wrapper(USER="planted", PASSWORD=PLANTED, pool={"name": "planted"})
        wrapper.ensure_connection()
        broken = postgresql.wrapper(
            USER="planted", PASSWORD=PLANTED, HOST="127.0.0.1", PORT="1",
            pool={"name": "broken", "timeout": 0.1},
        )  # fmt: skip
        with pytest.raises(broken.Database.OperationalError):
            broken.get_new_connection({})
        answers = [
            get(url).content.decode() for url in ("/pooling/metrics", "/pooling/metrics.json")
        ]
        broken.resolve_pool().close()  # type: ignore[attr-defined]
        wrapper.close()
        wrapper.resolve_pool().close()  # type: ignore[attr-defined]
    finally:
        postgresql.execute("DROP ROLE planted")

    for answer in answers:
        assert "planted" in answer
        assert PLANTED not in answer
        assert TOKEN not in answer
