"""Check of the number of threads against `max_size`."""

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
    """Find pools with fewer connections than threads, if the number of threads is known."""
    threads = deployment.threads()
    if threads is None:
        return []
    return [
        checks.Warning(
            f"DATABASES[{alias!r}]: {threads.number} threads ({threads.source}) share "
            f"max_size={config.max_size} connections",
            hint=(
                "A request holds its connection from its first query to its end, so under full "
                "load threads will wait. Raise max_size, set scope='transaction', or silence this "
                "check if few requests use the database or waiting is intended."
            ),
            id="pooling.W005",
        )
        for alias, _, config in pooled()
        if threads.number > config.max_size and config.scope == "request"
    ]
