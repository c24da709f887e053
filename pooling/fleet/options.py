"""The setting `POOLING`: how processes find each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from django.conf import settings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """What `settings.POOLING` says about the fleet.

    Attributes:
        publish_every: seconds between two snapshots of a process; `None` publishes nothing.
        cache: the alias in `CACHES` over which processes see each other.
        prefix: what the keys in the cache begin with. Projects that share a cache and should not
            see each other's pools need different ones.
    """

    publish_every: float | None = 2.0
    cache: str = "default"
    prefix: str = "pooling"

    @property
    def lifetime(self) -> float:
        """Seconds after which a process that says nothing more is gone."""
        return 3 * (self.publish_every or 0.0) + 1.0


def fleet_options() -> FleetOptions:
    """Read the setting; what it does not say has its default. Other keys belong to others."""
    given: Any = getattr(settings, "POOLING", None)
    if not isinstance(given, Mapping):
        return FleetOptions()
    names = [field.name for field in dataclasses.fields(FleetOptions)]
    return FleetOptions(**{name: given[name] for name in names if name in given})
