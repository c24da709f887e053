"""Instruments for OpenTelemetry; install with `pip install "django-pooling[opentelemetry]"`.

    from pooling.metrics.opentelemetry import instrument

    instrument()

Each process reports its own pools; the provider's resource identifies the process.
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
from pooling.metrics.definitions import METRICS, POOL_NAME, STATE, Metric
from pooling.metrics.families import merged, padded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider

CONVENTIONS = tuple(metric for metric in METRICS if metric.convention is not None)

MAX_RECORDS = 1_000
"""Durations recorded for each pool and collection; OpenTelemetry has no call for many at once."""


def instrument(meter_provider: MeterProvider | None = None) -> None:
    """Register the instruments of the semantic conventions with a provider.

    They are read when the provider's reader collects, at no cost for the users of a pool. The
    histograms of wait and hold times get one `record` for each duration counted since the last
    collection, in the reader's thread; of more than `MAX_RECORDS` a sample in proportion.

    Call it once per provider; after a fork again if a new provider was set there.

    Args:
        meter_provider: the global one by default.
    """
    meter = get_meter("pooling", pooling.__version__, meter_provider)
    for metric in CONVENTIONS:
        _register(meter, metric)


def _register(meter: Meter, metric: Metric) -> None:
    name = metric.convention or ""
    about: dict[str, Any] = {"unit": metric.unit, "description": metric.text}
    callbacks = [partial(_observe, metric)]
    if metric.kind == "histogram":
        # Histograms have no callbacks. A counter of the same durations has, and its callback
        # records the histogram: readers run the callbacks first.
        recorder = _HistogramRecorder(
            meter.create_histogram(
                name,
                explicit_bucket_boundaries_advisory=[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10],
                **about,
            ),
            metric.key,
        )
        meter.create_observable_counter(
            metric.name.removesuffix("_time_seconds").replace("_", ".") + ".count",
            callbacks=[recorder.observe],
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


class _HistogramRecorder:
    """Records the durations counted since the last collection, approximated by their buckets."""

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
        """Record new durations and observe the total count."""
        for name, stats in _pools().items():
            value = stats[self._key]
            now = HistogramSnapshot(value["count"], value["seconds"], padded(value["buckets"]))
            with self._lock:
                before = self._before.get(name)
                self._before[name] = now
            new = now if before is None or now.count < before.count else now - before
            for seconds, count in _values(new):
                for _ in range(_share(count, new.count)):
                    self._histogram.record(seconds, {POOL_NAME: name})
            yield Observation(now.count, {POOL_NAME: name})


def _share(count: int, total: int) -> int:
    """Return how many of `count` durations are recorded, one of each bucket at least."""
    return count if total <= MAX_RECORDS else max(count * MAX_RECORDS // total, 1)


def _values(durations: HistogramSnapshot) -> Iterator[tuple[float, int]]:
    """Return a value per bucket, scaled so that their sum is the measured one."""
    middles = [
        (HistogramSnapshot.upper_bound(bucket) * 2**-0.25, count)
        for bucket, count in enumerate(durations.buckets)
        if count > 0
    ]
    total = sum(middle * count for middle, count in middles)
    factor = durations.seconds / total if total > 0 and durations.seconds > 0 else 1.0
    # A bucket's middle is off by a quarter at most; a larger factor means that counters were reset.
    factor = min(max(factor, 2**-0.25), 2**0.25)
    for middle, count in middles:
        yield middle * factor, count
