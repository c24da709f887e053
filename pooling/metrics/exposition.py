"""Text exposition formats: Prometheus and OpenMetrics.

https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooling.metrics.families import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pooling.metrics.families import Family, Sample

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def render(families: Iterable[Family], *, openmetrics: bool) -> str:
    """Return the families in one of the text formats."""
    lines: list[str] = []
    for family in families:
        metric = family.metric
        # In the Prometheus format, the type line carries the name of the samples.
        suffix = "_total" if metric.kind == "counter" and not openmetrics else ""
        lines.append(f"# HELP {metric.name}{suffix} {_escaped(metric.text, quotes=openmetrics)}")
        lines.append(f"# TYPE {metric.name}{suffix} {metric.kind}")
        if openmetrics and metric.unit == "s":
            lines.append(f"# UNIT {metric.name} seconds")
        for sample in family.samples:
            lines += _lines(family, sample)
    if openmetrics:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _lines(family: Family, sample: Sample) -> Iterator[str]:
    name = family.metric.name
    if family.metric.kind == "counter":
        yield f"{name}_total{_labels(sample.labels)} {sample.value}"
    elif sample.durations is None:
        yield f"{name}{_labels(sample.labels)} {sample.value}"
    else:
        bounds = [*(repr(bound) for bound in BOUNDS), "+Inf"]
        for bound, count in zip(bounds, sample.durations.cumulative, strict=True):
            yield f"{name}_bucket{_labels({**sample.labels, 'le': bound})} {count}"
        yield f"{name}_sum{_labels(sample.labels)} {sample.durations.seconds!r}"
        yield f"{name}_count{_labels(sample.labels)} {sample.durations.count}"


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items()) + "}"


def _escaped(text: str, *, quotes: bool = True) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text
