"""CACHE_URL: what the processes of the site share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.project.conftest import PRODUCTION

if TYPE_CHECKING:
    from tests.project.conftest import Project

BACKENDS = "django.core.cache.backends."


def test_files_beside_the_project_are_the_default(project: Project) -> None:
    cache = project.settings(**PRODUCTION)["CACHES"]["default"]
    assert cache["BACKEND"] == BACKENDS + "filebased.FileBasedCache"
    assert cache["LOCATION"] == str(project.path / ".cache")


@pytest.mark.parametrize(
    ("url", "backend", "location"),
    [
        ("redis://:pass@host:6379/0", "redis.RedisCache", "redis://:pass@host:6379/0"),
        ("filecache:///srv/cache", "filebased.FileBasedCache", "/srv/cache"),
        ("locmemcache://name", "locmem.LocMemCache", "name"),
    ],
)
def test_a_url_names_another(project: Project, url: str, backend: str, location: str) -> None:
    cache = project.settings(**PRODUCTION, CACHE_URL=url)["CACHES"]["default"]
    assert (cache["BACKEND"], cache["LOCATION"]) == (BACKENDS + backend, location)


@pytest.mark.parametrize("url", ["geheim", "nocache://:geheim@host", "redis://[geheim"])
def test_a_url_that_is_none_is_refused_without_showing_it(project: Project, url: str) -> None:
    message = project.error(**PRODUCTION, CACHE_URL=url)
    assert message.startswith("CACHE_URL must look like")
    assert "geheim" not in message


def test_the_cache_works(project: Project) -> None:
    script = """
import django
django.setup()
from pooling import fleet
from django.core.cache import cache
cache.set("key", "value")
print(cache.get("key"), fleet.sees_one_process())
"""
    result = project.python("-c", script, DEBUG="1", DJANGO_SETTINGS_MODULE="poolproject.settings")
    assert result.stdout.split() == ["value", "False"], result.stderr
