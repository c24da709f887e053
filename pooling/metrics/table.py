"""Which numbers there are, and what they are called: the one place for the names.

The names of OpenTelemetry are those of its semantic conventions for database client pools, which
are still marked "development" (https://opentelemetry.io/docs/specs/semconv/db/database-metrics/).
There is no `create_time` among them: the pool does not measure how long connecting takes.
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
    """One of the numbers.

    Attributes:
        name: its name for Prometheus, without `_total`.
        kind: what kind of number it is.
        text: what it says, in one sentence.
        key: which of the statistics it is.
        label: what tells its parts apart, if it has parts.
        parts: the parts by their label's value, and the statistics they are.
        convention: its name in OpenTelemetry's conventions, if it is in them.
        unit: in UCUM, as the conventions have it.
    """

    name: str
    kind: Kind
    text: str
    key: str = ""
    label: str | None = None
    parts: Callable[[Mapping[str, Any]], Iterator[tuple[str, Any]]] | None = None
    convention: str | None = None
    unit: str = "1"

    def read(self, stats: Mapping[str, Any]) -> Iterator[tuple[str | None, Any]]:
        """Return the parts and their values; a number without parts has the part None."""
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


METRICS = (
    Metric(
        name="pooling_connections",
        kind="gauge",
        text="Connections there are, by state.",
        label="state",
        parts=_states,
        convention="db.client.connection.count",
        unit="{connection}",
    ),
    Metric(
        name="pooling_connections_idle_max",
        kind="gauge",
        text="Idle connections the pool may have at most, which is max_size.",
        key="max_size",
        convention="db.client.connection.idle.max",
        unit="{connection}",
    ),
    Metric(
        name="pooling_connections_idle_min",
        kind="gauge",
        text="Connections the pool keeps, which is min_size.",
        key="min_size",
        convention="db.client.connection.idle.min",
        unit="{connection}",
    ),
    Metric(
        name="pooling_connections_max",
        kind="gauge",
        text="Connections the pool may have at most, which is max_size.",
        key="max_size",
        convention="db.client.connection.max",
        unit="{connection}",
    ),
    Metric(
        name="pooling_pending_requests",
        kind="gauge",
        text="Callers that wait for a connection.",
        key="waiting",
        convention="db.client.connection.pending_requests",
        unit="{request}",
    ),
    Metric(
        name="pooling_timeouts",
        kind="counter",
        text="Callers that waited in vain.",
        key="timeouts",
        convention="db.client.connection.timeouts",
        unit="{timeout}",
    ),
    Metric(
        name="pooling_wait_time_seconds",
        kind="histogram",
        text="How long those callers waited that had to.",
        key="waits",
        convention="db.client.connection.wait_time",
        unit="s",
    ),
    Metric(
        name="pooling_use_time_seconds",
        kind="histogram",
        text="How long connections were held.",
        key="holds",
        convention="db.client.connection.use_time",
        unit="s",
    ),
    Metric(
        name="pooling_acquired",
        kind="counter",
        text="Leases that reached their caller.",
        key="acquired",
    ),
    Metric(
        name="pooling_waited",
        kind="counter",
        text="Acquires that had to queue, whatever became of them.",
        key="waited",
    ),
    Metric(
        name="pooling_rejected",
        kind="counter",
        text="Callers turned away: max_waiting were waiting, or the server is down.",
        key="rejected",
    ),
    Metric(
        name="pooling_connects",
        kind="counter",
        text="Connections that were opened.",
        key="connects",
    ),
    Metric(
        name="pooling_connect_errors",
        kind="counter",
        text="Attempts to open a connection that failed.",
        key="connect_errors",
    ),
    Metric(
        name="pooling_recovered",
        kind="counter",
        text="Connections taken back from holders that were gone.",
        key="recovered",
    ),
    Metric(
        name="pooling_discards",
        kind="counter",
        text="Connections thrown away, by reason.",
        label="reason",
        parts=_discards,
    ),
    Metric(
        name="pooling_suspended",
        kind="gauge",
        text="1 while the pool is suspended, else 0.",
        key="suspended",
    ),
)
