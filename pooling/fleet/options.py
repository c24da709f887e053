"""The fleet's options in the setting `POOLING`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from django.conf import settings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """Options of `settings.POOLING` that concern the fleet.

    Attributes:
        publish_every: seconds between two snapshots of a process; `None` publishes nothing.
        cache: the alias in `CACHES` that processes share.
        prefix: prefix of the cache keys. Projects that share a cache but should not see each
            other's pools need different prefixes.
    """

    publish_every: float | None = 2.0
    cache: str = "default"
    prefix: str = "pooling"

    @property
    def lifetime(self) -> float:
        """Seconds after which a process that stopped publishing counts as ended."""
        return 3 * (self.publish_every or 0.0) + 1.0


def fleet_options() -> FleetOptions:
    """Return the fleet's options; missing ones have defaults, keys of other modules are ignored."""
    given: Any = getattr(settings, "POOLING", None)
    if not isinstance(given, Mapping):
        return FleetOptions()
    names = [field.name for field in dataclasses.fields(FleetOptions)]
    return FleetOptions(**{name: given[name] for name in names if name in given})
