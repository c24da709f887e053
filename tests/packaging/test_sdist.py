"""The source distribution: what a reader without the repository gets."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.packaging.conftest import REPOSITORY, metadata_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def names(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def test_the_documentation_is_included(names: set[str]) -> None:
    pages = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "docs").iterdir()}
    assert len(pages) > 15
    assert {*pages, "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"} <= names


def test_what_make_needs_is_included(names: set[str]) -> None:
    assert {"Makefile", "manage.py", "pyproject.toml", "tests/plugin.py", ".ci/run"} <= names
    assert {"poolproject/settings.py", "users/models.py"} <= names


def test_no_file_of_a_working_copy_is_included(names: set[str]) -> None:
    parts = {part for name in names for part in name.split("/")}
    assert not parts & {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", "build"}
    assert not [name for name in names if name.endswith((".sqlite3", ".pyc"))]


def test_it_is_django_pooling(sdist: Path) -> None:
    assert sdist.name.startswith("django_pooling-")
    folder = sdist.name.removesuffix(".tar.gz")
    with tarfile.open(sdist) as archive:
        info = archive.extractfile(f"{folder}/PKG-INFO")
        assert info is not None
        assert metadata_of(info.read().decode())["Name"] == "django-pooling"
