"""Collector for `prometheus_client`; install with `pip install "django-pooling[prometheus]"`.

from prometheus_client import REGISTRY
from pooling.metrics.prometheus import PoolCollector

REGISTRY.register(PoolCollector())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from pooling import fleet
from pooling.metrics.families import BOUNDS, Family, families

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric


class PoolCollector(Collector):
    """Collects the metrics of the pools on each scrape. Opens no connection.

    With `all_processes`, the default, a scrape of any process returns the metrics of all processes
    in the shared cache (see `pooling.fleet`). It does not need the files of prometheus_client's
    multiprocess mode: in that mode, register it with the registry that is exposed, beside the
    `MultiProcessCollector`.

    Args:
        all_processes: False for this process only, if each process is scraped separately.
    """

    def __init__(self, *, all_processes: bool = True) -> None:
        self._all_processes = all_processes

    def describe(self) -> list[Metric]:
        """Return the metrics without samples, so that registering does not collect."""
        return [_translated(family) for family in families([])]

    def collect(self) -> Iterator[Metric]:
        """Return the current metrics."""
        seen = fleet.processes() if self._all_processes else [fleet.snapshot()]
        for family in families(seen):
            yield _translated(family)


def _translated(family: Family) -> Metric:
    metric = family.metric
    names = ["pool", "host", "process", *([metric.label] if metric.label else [])]
    translated: Any
    if metric.kind == "histogram":
        # prometheus_client requires that the name ends in the unit.
        translated = HistogramMetricFamily(metric.name, metric.text, labels=names, unit="seconds")
        for sample in family.samples:
            if sample.durations is not None:
                bounds = [*map(repr, BOUNDS), "+Inf"]
                counts = sample.durations.cumulative
                translated.add_metric(
                    list(sample.labels.values()),
                    list(zip(bounds, counts, strict=True)),
                    sample.durations.seconds,
                )
        return translated  # type: ignore[no-any-return]
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    translated = kind(metric.name, metric.text, labels=names)
    for sample in family.samples:
        translated.add_metric(list(sample.labels.values()), sample.value)
    return translated  # type: ignore[no-any-return]
