"""A check of the threads that are known against the connections there can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core import checks

from pooling import deployment
from pooling.checks.options import pooled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.apps import AppConfig


def check_threads(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001 - the signature of a system check
    **kwargs: Any,  # noqa: ARG001
) -> list[checks.CheckMessage]:
    """Find pools that are smaller than the number of threads, as far as that is known."""
    threads = deployment.threads()
    if threads is None:
        return []
    return [
        checks.Warning(
            f"DATABASES[{alias!r}]: {threads.number} threads ({threads.source}) share "
            f"max_size={config.max_size} connections",
            hint=(
                "A request holds its connection from its first query to its end, so under full "
                "load threads will wait. Raise max_size, or silence this if few requests use the "
                "database or waiting is meant."
            ),
            id="pooling.W005",
        )
        for alias, _, config in pooled()
        if threads.number > config.max_size
    ]
