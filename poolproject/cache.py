"""Cache settings from CACHE_URL."""

from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from poolproject.environment import Environment


def cache(env: Environment, base_dir: Path) -> dict[str, Any]:
    """Return the entry of `CACHES`: by default files, which all processes of a machine share.

    Through it, processes see each other's connection pools.
    """
    url = env.secret("CACHE_URL")
    if not url:
        return {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": base_dir / ".cache",
        }
    try:
        config: dict[str, Any] = Environment.cache_url_config(url)
    except (ImproperlyConfigured, ValueError, KeyError):  # the text may quote a password
        config = {}
    if "BACKEND" not in config:
        raise ImproperlyConfigured(
            "CACHE_URL must look like redis://:password@host:6379/0, filecache:///folder or "
            "locmemcache://name."
        )
    return config
