"""System checks: what `manage.py check` and every command say about wrong settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.checks import CheckMessage, Error

from pooling.conf import read_pool_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.apps import AppConfig

ENGINES = "pooling.backends."


def check_pools(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001 - the signature of a system check
    **kwargs: Any,  # noqa: ARG001
) -> list[CheckMessage]:
    """Find wrong pool options in `DATABASES` (pooling.E001)."""
    return [
        Error(problem, hint="See the option table in pooling's README.", id="pooling.E001")
        for alias, settings_dict in settings.DATABASES.items()
        if str(settings_dict.get("ENGINE", "")).startswith(ENGINES)
        for problem in read_pool_config(settings_dict, alias)[1]
    ]
