"""Instruments for OpenTelemetry, which `pip install "django-pooling[opentelemetry]"` brings.

    from pooling.metrics.opentelemetry import instrument

    instrument()

Each process tells of its own pools: which process it is, is said by the resource of its provider.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Observation, get_meter

import pooling
from pooling import fleet
from pooling.core import forks
from pooling.core.histogram import HistogramSnapshot
from pooling.metrics.families import merged, padded
from pooling.metrics.table import METRICS, POOL_NAME, STATE, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider

CONVENTIONS = tuple(metric for metric in METRICS if metric.convention is not None)


def instrument(meter_provider: MeterProvider | None = None) -> None:
    """Register the instruments of the semantic conventions with a provider.

    They are read when the provider's reader asks. That costs the uses of a pool nothing; the
    histograms of waiting and holding get one `record` for each that was counted since the last
    time, in the thread of the reader.

    Call it once for each provider, and after a fork if the provider has been made anew there.

    Args:
        meter_provider: the global one if it is not given.
    """
    meter = get_meter("pooling", pooling.__version__, meter_provider)
    for metric in CONVENTIONS:
        _register(meter, metric)


def _register(meter: Meter, metric: Metric) -> None:
    name = metric.convention or ""
    about: dict[str, Any] = {"unit": metric.unit, "description": metric.text}
    callbacks = [partial(_observe, metric)]
    if metric.kind == "histogram":
        # Histograms cannot be observed. So a counter of the same durations, which may, has them
        # recorded on its occasion: readers ask those that observe first.
        replay = _Replay(
            meter.create_histogram(
                name,
                explicit_bucket_boundaries_advisory=[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10],
                **about,
            ),
            metric.key,
        )
        meter.create_observable_counter(
            metric.name.removesuffix("_time_seconds").replace("_", ".") + ".count",
            callbacks=[replay.observe],
            description=f"{metric.text.removesuffix('.')}: the number of them.",
        )
    elif metric.kind == "counter":
        meter.create_observable_counter(name, callbacks=callbacks, **about)
    else:
        meter.create_observable_up_down_counter(name, callbacks=callbacks, **about)


def _pools() -> dict[str, dict[str, Any]]:
    return merged(fleet.snapshot()["pools"])


def _observe(metric: Metric, _options: CallbackOptions) -> Iterable[Observation]:
    for name, stats in _pools().items():
        for part, value in metric.read(stats):
            attributes = {POOL_NAME: name}
            if part is not None:
                attributes[STATE] = part
            yield Observation(int(value), attributes)


class _Replay:
    """Records the durations that were counted since the last time, as near as buckets tell."""

    def __init__(self, histogram: Histogram, key: str) -> None:
        self._histogram = histogram
        self._key = key
        self._before: dict[str, HistogramSnapshot] = {}
        self._lock = threading.Lock()
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """Take a new lock; the child's pools count from zero."""
        self._lock = threading.Lock()
        self._before = {}

    def observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """Record what is new and observe how many there are in all."""
        for name, stats in _pools().items():
            value = stats[self._key]
            now = HistogramSnapshot(value["count"], value["seconds"], padded(value["buckets"]))
            with self._lock:
                before = self._before.get(name)
                self._before[name] = now
            new = now if before is None or now.count < before.count else now - before
            for seconds, count in _values(new):
                for _ in range(count):
                    self._histogram.record(seconds, {POOL_NAME: name})
            yield Observation(now.count, {POOL_NAME: name})


def _values(durations: HistogramSnapshot) -> Iterator[tuple[float, int]]:
    """Return a value for each bucket, such that together they have the sum that was measured."""
    middles = [
        (HistogramSnapshot.upper_bound(bucket) * 2**-0.25, count)
        for bucket, count in enumerate(durations.buckets)
        if count > 0
    ]
    total = sum(middle * count for middle, count in middles)
    factor = durations.seconds / total if total > 0 and durations.seconds > 0 else 1.0
    # Counting by bucket is off by a quarter at most, so a larger factor means reset counters.
    factor = min(max(factor, 2**-0.25), 2**0.25)
    for middle, count in middles:
        yield middle * factor, count
