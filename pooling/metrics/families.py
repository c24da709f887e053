"""Metric families: the samples of all processes, grouped by metric."""

from __future__ import annotations

import dataclasses
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from pooling.core.histogram import BUCKETS, HistogramSnapshot
from pooling.fleet.archive import plus, totals
from pooling.metrics.definitions import METRICS, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

EDGES = range(12, 54, 2)
"""Buckets whose upper bounds are exported: from 64 µs to 67 s, each twice the one before. The
pool's histograms are finer and wider; exporting all buckets would multiply the series."""

BOUNDS = tuple(HistogramSnapshot.upper_bound(edge) for edge in EDGES)
"""Upper bounds in seconds, without the infinite one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram in the format of Prometheus.

    Attributes:
        cumulative: number of durations up to each of `BOUNDS`, and of all.
        seconds: their sum.
    """

    cumulative: tuple[int, ...]
    seconds: float

    @property
    def count(self) -> int:
        """Number of durations."""
        return self.cumulative[-1]


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One value with its labels.

    Attributes:
        labels: `pool`, `host`, `process`, and the metric's own label if it has one.
        value: the number; 0 for a histogram.
        durations: the distribution of a histogram.
    """

    labels: dict[str, str]
    value: float = 0
    durations: Distribution | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """A metric with its samples."""

    metric: Metric
    samples: tuple[Sample, ...]


def families(processes: Iterable[Mapping[str, Any]]) -> list[Family]:
    """Return all metrics with their samples from snapshots (see `pooling.fleet`)."""
    sources = list(_sources(processes))
    return [Family(metric, tuple(_samples(metric, sources))) for metric in METRICS]


def merged(pools: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the statistics of pools by name, summed for pools of the same name.

    A process may have several pools of a name, for example for one database with two time zones;
    a scraper rejects an exposition that has two samples with the same labels.
    """
    by_name: dict[str, dict[str, Any]] = {}
    for pool in pools:
        stats = pool["stats"]
        name = pool["name"]
        by_name[name] = _sum(by_name[name], stats) if name in by_name else dict(stats)
    return by_name


def padded(buckets: Sequence[int]) -> tuple[int, ...]:
    """Return buckets including the empty ones at the end, which snapshots leave out."""
    return (*buckets, *[0] * (BUCKETS - len(buckets)))


def _sources(
    processes: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[dict[str, str], Mapping[str, Any]]]:
    for process in processes:
        for name, stats in merged(process["pools"]).items():
            yield (
                {"pool": name, "host": str(process["host"]), "process": str(process["pid"])},
                stats,
            )


def _samples(
    metric: Metric, sources: Iterable[tuple[dict[str, str], Mapping[str, Any]]]
) -> Iterator[Sample]:
    for labels, stats in sources:
        for part, value in metric.read(stats):
            extra = {} if metric.label is None else {metric.label: str(part)}
            if metric.kind == "histogram":
                yield Sample({**labels, **extra}, durations=_distribution(value))
            else:
                yield Sample({**labels, **extra}, value if isinstance(value, float) else int(value))


def _distribution(value: Mapping[str, Any]) -> Distribution:
    buckets = padded(value["buckets"])
    running = tuple(accumulate(buckets))
    return Distribution((*(running[edge] for edge in EDGES), running[-1]), float(value["seconds"]))


def _sum(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    gauges = [key for key in one if isinstance(one[key], int)]
    return {
        **one,
        **{key: one[key] + other[key] for key in gauges},
        **plus(totals(one), totals(other)),
        "max_wait": max(one["max_wait"], other["max_wait"]),
        "outage": one["outage"] or other["outage"],
    }
