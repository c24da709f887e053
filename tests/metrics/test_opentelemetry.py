"""The instruments of OpenTelemetry's conventions, read by its own SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.semconv._incubating.metrics import db_metrics

from pooling import fleet
from pooling.metrics.definitions import METRICS
from pooling.metrics.opentelemetry import instrument
from tests.metrics.samples import measured, pool, process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import Database

NAME = "db.client.connection.pool.name"
STATE = "db.client.connection.state"


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    instrument(provider)
    yield reader
    provider.shutdown()


def read(reader: InMemoryMetricReader, name: str) -> dict[str, Any]:
    """Return the metrics by name, and in each the data points of the pool `name`, by state."""
    data: Any = reader.get_metrics_data()
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    assert scope.scope.name == "pooling"
    return {
        metric.name: {
            point.attributes.get(STATE): point
            for point in metric.data.data_points
            if point.attributes[NAME] == name
        }
        for metric in scope.metrics
    }


def test_the_names_and_units_are_those_of_the_conventions() -> None:
    ours = {metric.convention: metric for metric in METRICS if metric.convention}
    theirs = {
        value
        for key, value in vars(db_metrics).items()
        if key.startswith("DB_CLIENT_CONNECTION_") and isinstance(value, str)
    }

    assert ours.keys() == theirs


def test_a_real_pool_is_observed(database: Database, reader: InMemoryMetricReader) -> None:
    wrappers = [database.wrapper(pool={"name": "real", "max_size": 7}) for _ in range(3)]
    for wrapper in wrappers:
        wrapper.ensure_connection()
    wrappers[0].close()
    found = read(reader, "real")

    count = found["db.client.connection.count"]
    assert {state: point.value for state, point in count.items()} == {
        "idle": 1,
        "used": 2,
        "connecting": 0,
    }
    for name, value in (
        ("idle.max", 7),
        ("idle.min", 0),
        ("max", 7),
        ("pending_requests", 0),
        ("timeouts", 0),
    ):
        assert found[f"db.client.connection.{name}"][None].value == value
    held = found["db.client.connection.use_time"][None]
    assert held.count == 1
    assert held.sum > 0
    opened = found["db.client.connection.create_time"][None]
    assert opened.count == 3
    assert opened.sum > 0


def test_durations_become_histograms_once_each(
    monkeypatch: pytest.MonkeyPatch, reader: InMemoryMetricReader
) -> None:
    durations = [0.0012, 0.02, 0.02, 0.3]
    for _ in range(2):  # reading again counts nothing again
        stats = pool("shop", holds=measured(*durations))
        monkeypatch.setattr(fleet, "snapshot", lambda stats=stats: process(stats))
        held = read(reader, "shop")["db.client.connection.use_time"][None]
        assert held.count == 4
        assert held.sum == pytest.approx(sum(durations), rel=0.2)
    assert held.explicit_bounds == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
    assert held.bucket_counts == (0, 1, 0, 2, 0, 1, 0, 0, 0, 0)

    more = pool("shop", holds=measured(*durations, 2.0))
    monkeypatch.setattr(fleet, "snapshot", lambda: process(more))
    assert read(reader, "shop")["db.client.connection.use_time"][None].count == 5

    # Somebody cleared the statistics: what is counted since then is new.
    cleared = pool("shop", holds=measured(0.1))
    monkeypatch.setattr(fleet, "snapshot", lambda: process(cleared))
    assert read(reader, "shop")["db.client.connection.use_time"][None].count == 6


def test_a_collection_records_a_bounded_number(
    monkeypatch: pytest.MonkeyPatch, reader: InMemoryMetricReader
) -> None:
    busy = pool("shop", holds=measured(*[0.002] * 30_000, *[0.7] * 10_000, 7.0))
    monkeypatch.setattr(fleet, "snapshot", lambda: process(busy))
    found = read(reader, "shop")
    held = found["db.client.connection.use_time"][None]
    assert held.bucket_counts == (0, 749, 0, 0, 0, 0, 249, 0, 1, 0)
    assert found["pooling.use.count"][None].value == 40_001  # which is exact


def test_timeouts_count_up(monkeypatch: pytest.MonkeyPatch, reader: InMemoryMetricReader) -> None:
    monkeypatch.setattr(fleet, "snapshot", lambda: process(pool("shop", timeouts=3)))
    point = read(reader, "shop")["db.client.connection.timeouts"][None]

    assert point.value == 3
