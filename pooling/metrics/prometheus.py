"""A collector for `prometheus_client`, which `pip install "django-pooling[prometheus]"` brings.

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
    """Collects the pools' numbers when it is asked. It opens no connection.

    With `all_processes`, the default, a scrape of any process gives the numbers of all that the
    cache shows (see `pooling.fleet`). It does not use the files of prometheus_client's multiprocess
    mode, and does not need them: there, register it with the registry that is exposed, beside the
    `MultiProcessCollector`.

    Args:
        all_processes: False for this process only, where a scraper reaches each one by itself.
    """

    def __init__(self, *, all_processes: bool = True) -> None:
        self._all_processes = all_processes

    def describe(self) -> list[Metric]:
        """Return the metrics without samples, so that registering one collects nothing."""
        return [_translated(family) for family in families([])]

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of this moment."""
        seen = fleet.processes() if self._all_processes else [fleet.snapshot()]
        for family in families(seen):
            yield _translated(family)


def _translated(family: Family) -> Metric:
    metric = family.metric
    names = ["pool", "host", "process", *([metric.label] if metric.label else [])]
    translated: Any
    if metric.kind == "histogram":
        # The name ends in the unit already, as prometheus_client would have it.
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
