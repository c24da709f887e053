"""Definitions of the metrics and their names.

The OpenTelemetry names are those of the semantic conventions for database client pools, which have
the status "development" (https://opentelemetry.io/docs/specs/semconv/db/database-metrics/).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Kind = Literal["gauge", "counter", "histogram"]

POOL_NAME = "db.client.connection.pool.name"
STATE = "db.client.connection.state"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Definition of a metric.

    Attributes:
        name: name for Prometheus, without `_total`.
        kind: gauge, counter or histogram.
        text: description.
        key: key in the statistics of a snapshot.
        label: name of the label that distinguishes the parts, if it has parts.
        parts: returns pairs of a label value and a number from the statistics.
        convention: name in OpenTelemetry's conventions, if it is in them.
        unit: in UCUM, as in the conventions.
    """

    name: str
    kind: Kind
    text: str
    key: str = ""
    label: str | None = None
    parts: Callable[[Mapping[str, Any]], Iterator[tuple[str | None, Any]]] | None = None
    convention: str | None = None
    unit: str = "1"

    def read(self, stats: Mapping[str, Any]) -> Iterator[tuple[str | None, Any]]:
        """Return pairs of part and value; the part is None for a metric without parts."""
        if self.parts is None:
            yield None, stats[self.key]
        else:
            yield from self.parts(stats)


def _states(stats: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "idle", stats["idle"]
    yield "used", stats["leased"]
    yield "connecting", stats["connecting"]


def _discards(stats: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for reason, count in stats["discards"].items():
        yield str(reason), count


def _budget(stats: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if stats["budget"] is not None:
        yield from ((kind, stats["budget"][kind]) for kind in ("limit", "used"))


def _pins(stats: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from stats["pins"].items()


METRICS = (
    Metric(
        name="pooling_connections",
        kind="gauge",
        text="Open connections by state.",
        label="state",
        parts=_states,
        convention="db.client.connection.count",
        unit="{connection}",
    ),
    Metric(
        name="pooling_connections_idle_max",
        kind="gauge",
        text="Maximum number of idle connections: max_size.",
        key="max_size",
        convention="db.client.connection.idle.max",
        unit="{connection}",
    ),
    Metric(
        name="pooling_connections_idle_min",
        kind="gauge",
        text="Minimum number of connections kept open: min_size.",
        key="min_size",
        convention="db.client.connection.idle.min",
        unit="{connection}",
    ),
    Metric(
        name="pooling_connections_max",
        kind="gauge",
        text="Maximum number of connections: max_size.",
        key="max_size",
        convention="db.client.connection.max",
        unit="{connection}",
    ),
    Metric(
        name="pooling_pending_requests",
        kind="gauge",
        text="Callers waiting for a connection.",
        key="waiting",
        convention="db.client.connection.pending_requests",
        unit="{request}",
    ),
    Metric(
        name="pooling_timeouts",
        kind="counter",
        text="Acquires that timed out.",
        key="timeouts",
        convention="db.client.connection.timeouts",
        unit="{timeout}",
    ),
    Metric(
        name="pooling_wait_time_seconds",
        kind="histogram",
        text="Wait time of the acquires that had to queue.",
        key="waits",
        convention="db.client.connection.wait_time",
        unit="s",
    ),
    Metric(
        name="pooling_use_time_seconds",
        kind="histogram",
        text="Hold time of leases.",
        key="holds",
        convention="db.client.connection.use_time",
        unit="s",
    ),
    Metric(
        name="pooling_create_time_seconds",
        kind="histogram",
        text="Time it took to open a connection and set up its session.",
        key="opens",
        convention="db.client.connection.create_time",
        unit="s",
    ),
    Metric(
        name="pooling_acquired",
        kind="counter",
        text="Leases handed to callers.",
        key="acquired",
    ),
    Metric(
        name="pooling_waited",
        kind="counter",
        text="Acquires that had to queue, successful or not.",
        key="waited",
    ),
    Metric(
        name="pooling_rejected",
        kind="counter",
        text="Acquires rejected at once: max_waiting reached, or server unreachable.",
        key="rejected",
    ),
    Metric(
        name="pooling_connects",
        kind="counter",
        text="Connections opened.",
        key="connects",
    ),
    Metric(
        name="pooling_connect_errors",
        kind="counter",
        text="Failed attempts to open a connection.",
        key="connect_errors",
    ),
    Metric(
        name="pooling_recovered",
        kind="counter",
        text="Connections recovered from holders that ended.",
        key="recovered",
    ),
    Metric(
        name="pooling_replayed",
        kind="counter",
        text="Reads that were run again since their session had ended.",
        key="replayed",
    ),
    Metric(
        name="pooling_discards",
        kind="counter",
        text="Connections discarded, by reason.",
        label="reason",
        parts=_discards,
    ),
    Metric(
        name="pooling_pins",
        kind="counter",
        text="Leases kept until the end of the request, by reason (scope transaction).",
        label="reason",
        parts=_pins,
    ),
    Metric(
        name="pooling_server_up",
        kind="gauge",
        text="0 while every attempt to connect fails, else 1.",
        parts=lambda stats: iter([(None, int(not stats["outage"]))]),
    ),
    Metric(
        name="pooling_max_wait_seconds",
        kind="gauge",
        text="How long the first caller in the queue has waited; 0 if none waits.",
        key="max_wait",
        unit="s",
    ),
    Metric(
        name="pooling_budget_connections",
        kind="gauge",
        text="The most connections of all processes together, and how many are in use.",
        label="kind",
        parts=_budget,
    ),
    Metric(
        name="pooling_suspended",
        kind="gauge",
        text="1 while the pool is suspended, else 0.",
        key="suspended",
    ),
)
