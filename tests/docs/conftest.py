"""Projects in which the examples of the documentation are run."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.docs.examples import ScratchProject
from tests.support.servers import settings_from_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SETTINGS = """
DATABASES["default"]["ENGINE"] = "pooling.backends.sqlite3"
DATABASES["replica"] = {"ENGINE": "pooling.backends.sqlite3", "NAME": BASE_DIR / "replica.sqlite3"}
INSTALLED_APPS += ["pooling"]
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": BASE_DIR / "cache",
    }
}
"""


@pytest.fixture(scope="session")
def prepared_project(tmp_path_factory: pytest.TempPathFactory) -> ScratchProject:
    """A project with tables, to be copied."""
    project = ScratchProject(tmp_path_factory.mktemp("prepared"))
    project.append("settings.py", SETTINGS)
    project.shell("python manage.py migrate --verbosity 0")
    return project


@pytest.fixture
def scratch_project(prepared_project: ScratchProject, tmp_path: Path) -> ScratchProject:
    """A project with pooled SQLite databases, their tables, and a cache that processes share."""
    shutil.copytree(prepared_project.root, tmp_path / prepared_project.name)
    return ScratchProject(tmp_path, prepared_project.name)


@pytest.fixture
def server_settings(postgresql_url: str, new_database: Callable[[], str]) -> dict[str, object]:
    """The entries of `DATABASES` that lead to a fresh database on the session's server."""
    entry = settings_from_url(postgresql_url, "")
    del entry["ENGINE"]
    return {**entry, "NAME": new_database()}
