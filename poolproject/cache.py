"""Turn CACHE_URL into an entry of Django's CACHES."""

from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from poolproject.environment import Environment


def cache(env: Environment, base_dir: Path) -> dict[str, Any]:
    """Return the default cache: files beside the project, which all processes of a machine share.

    Processes see each other's connection pools through it.
    """
    url = env.secret("CACHE_URL")
    if not url:
        return {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": base_dir / ".cache",
        }
    try:
        config: dict[str, Any] = Environment.cache_url_config(url)
    except (ImproperlyConfigured, ValueError, KeyError):  # whose text might quote a password
        config = {}
    if "BACKEND" not in config:
        raise ImproperlyConfigured(
            "CACHE_URL must look like redis://:password@host:6379/0, filecache:///folder or "
            "locmemcache://name."
        )
    return config
