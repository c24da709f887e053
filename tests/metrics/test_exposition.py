"""The text that Prometheus reads, read back by Prometheus's own parsers."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from pooling.core.histogram import HistogramSnapshot
from pooling.metrics.definitions import METRICS
from pooling.metrics.exposition import render
from pooling.metrics.families import BOUNDS, families
from tests.metrics.samples import measured, pool, process

READERS: Any = pytest.mark.parametrize(
    ("openmetrics", "read"),
    [(True, read_openmetrics), (False, read_prometheus)],
    ids=["openmetrics", "prometheus"],
)


WHERE = ("pool", "host", "process")


def values(text: str, read: Any) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and the values of its labels, in our order."""
    found = {}
    for family in read(text):
        for sample in family.samples:
            others = sample.labels.keys() - set(WHERE)
            order = [*(label for label in WHERE if label in sample.labels), *others]
            key = (sample.name, *(sample.labels[label] for label in order))
            assert key not in found
            found[key] = sample.value
    return found


@READERS
def test_every_metric_is_read_back_with_its_kind(openmetrics: bool, read: Any) -> None:
    text = render(families([process(pool())]), openmetrics=openmetrics)

    assert {family.name: family.type for family in read(text)} == {
        metric.name: metric.kind for metric in METRICS
    }
    assert {family.name: family.documentation for family in read(text)} == {
        metric.name: metric.text for metric in METRICS
    }


@READERS
def test_numbers_arrive(openmetrics: bool, read: Any) -> None:
    stats = {"acquired": 12345678, "timeouts": 4, "waiting": 7, "suspended": True}
    shop = pool("shop", **stats)
    shop["stats"]["discards"]["broken"] = 3
    shop["stats"]["pins"]["SET"] = 2
    found = values(render(families([process(shop)]), openmetrics=openmetrics), read)

    where = ("shop", "web1", "1")
    assert found["pooling_connections", *where, "used"] == 3
    assert found["pooling_connections", *where, "idle"] == 2
    assert found["pooling_connections", *where, "connecting"] == 0
    assert found["pooling_connections_max", *where] == 10
    assert found["pooling_acquired_total", *where] == 12345678
    assert found["pooling_timeouts_total", *where] == 4
    assert found["pooling_pending_requests", *where] == 7
    assert found["pooling_suspended", *where] == 1
    assert found["pooling_discards_total", *where, "broken"] == 3
    assert found["pooling_discards_total", *where, "recycled"] == 0
    assert found["pooling_pins_total", *where, "SET"] == 2


@READERS
def test_histograms_are_cumulative_and_complete(openmetrics: bool, read: Any) -> None:
    held = pool(holds=measured(1e-6, 0.001, 0.002, 0.5, 1000.0))
    found = values(render(families([process(held)]), openmetrics=openmetrics), read)
    where = ("default", "web1", "1")
    name = "pooling_use_time_seconds"
    buckets = [found[f"{name}_bucket", *where, bound] for bound in [*map(repr, BOUNDS), "+Inf"]]

    assert buckets == sorted(buckets)
    assert buckets[0] == 1  # 64 µs
    assert found[f"{name}_bucket", *where, "0.008192"] == 3
    assert found[f"{name}_bucket", *where, repr(BOUNDS[-1])] == 4
    assert buckets[-1] == found[f"{name}_count", *where] == 5
    assert found[f"{name}_sum", *where] == pytest.approx(1000.503001)


def test_the_bounds_are_bounds_of_the_pools_own_buckets() -> None:
    own = {HistogramSnapshot.upper_bound(bucket) for bucket in range(80)}

    assert set(BOUNDS) <= own
    assert list(BOUNDS) == sorted(BOUNDS)


@READERS
def test_names_that_need_escaping_survive(openmetrics: bool, read: Any) -> None:
    name = 'a "quoted" back\\slash,\nand {more}=café'
    text = render(families([process(pool(name))]), openmetrics=openmetrics)

    assert values(text, read)["pooling_connections_max", name, "web1", "1"] == 10


@READERS
def test_processes_and_hosts_are_told_apart(openmetrics: bool, read: Any) -> None:
    seen = [process(pool(), pid=1), process(pool(idle=0), pid=2), process(pool(), host="web2")]
    found = values(render(families(seen), openmetrics=openmetrics), read)

    assert [found["pooling_connections", "default", *where, "idle"] for where in [
        ("web1", "1"), ("web1", "2"), ("web2", "1")
    ]] == [2, 0, 2]  # fmt: skip


@READERS
def test_pools_of_one_name_in_one_process_are_added_up(openmetrics: bool, read: Any) -> None:
    """Two samples with the same labels would make Prometheus refuse the whole answer."""
    down = {"seconds": 1.0, "refused": 0, "next_attempt": None, "answered": False}
    one = pool(holds=measured(0.001), timeouts=1, suspended=True, outage=down, max_wait=1.5)
    other = pool(holds=measured(0.001, 100.0), timeouts=2)
    found = values(render(families([process(one, other)]), openmetrics=openmetrics), read)
    where = ("default", "web1", "1")

    assert found["pooling_connections", *where, "used"] == 6
    assert found["pooling_timeouts_total", *where] == 3
    assert found["pooling_server_up", *where] == 0
    assert found["pooling_max_wait_seconds", *where] == 1.5
    assert found["pooling_use_time_seconds_count", *where] == 3
    assert found["pooling_use_time_seconds_sum", *where] == pytest.approx(100.002)


@READERS
def test_a_fleet_without_pools_is_an_answer_without_samples(openmetrics: bool, read: Any) -> None:
    text = render(families([process()]), openmetrics=openmetrics)

    assert values(text, read) == {}
    assert text.endswith("# EOF\n") is openmetrics


def test_names_follow_the_rules_of_their_formats() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket", "_info"))
        assert metric.name.endswith("_seconds") == (metric.unit == "s")
        assert metric.text.endswith(".")
    conventions = [metric.convention for metric in METRICS if metric.convention]
    assert conventions == [
        f"db.client.connection.{name}"
        for name in (
            "count",
            "idle.max",
            "idle.min",
            "max",
            "pending_requests",
            "timeouts",
            "wait_time",
            "use_time",
            "create_time",
        )
    ]


@READERS
def test_a_budget_has_a_limit_and_what_is_used(openmetrics: bool, read: Any) -> None:
    use = {"limit": 60, "used": 58, "processes": 12, "wanting": 1}
    text = render(families([process(pool(budget=use), pool("other"))]), openmetrics=openmetrics)
    found = values(text, read)
    budgets = {
        key[2:]: value for key, value in found.items() if key[0].endswith("budget_connections")
    }
    assert sorted(value for value in budgets.values()) == [58, 60]
