"""The check of a MySQL or MariaDB server: how long it keeps idle sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core import checks

if TYPE_CHECKING:
    from pooling.core.config import PoolConfig


def check_wait_timeout(
    alias: str, config: PoolConfig, wait_timeout: int
) -> list[checks.CheckMessage]:
    """Compare the server's `wait_timeout` with the time that the pool keeps idle sessions."""
    # `min_size` connections stay idle until they are replaced for their age.
    option = "recycle" if config.min_size or config.max_idle is None else "max_idle"
    kept = getattr(config, option)
    if kept is not None and kept <= wait_timeout:
        return []
    return [
        checks.Warning(
            f"DATABASES[{alias!r}]: the server ends sessions that were idle for "
            f"wait_timeout={wait_timeout} s, before the pool does ({option}={kept})",
            hint=(
                f"Set {option} below wait_timeout. The pool never lends a session that was ended, "
                "but it has to open another one when it is needed."
            ),
            id="pooling.W010",
        )
    ]
