"""Fleets of processes, and caches that behave badly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.fleet.members import Member, file_cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from django.conf import LazySettings

    from tests.conftest import DatabaseSettings

FAST = {"publish_every": 0.1}


@pytest.fixture(autouse=True)
def _allow_databases(django_db_blocker: Any) -> Iterator[None]:
    """These tests use databases of their own, not the test databases that pytest-django makes."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def cache_folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def shared_cache(settings: LazySettings, cache_folder: Path) -> None:
    """This process shares a file cache with the members."""
    settings.CACHES = file_cache(cache_folder)
    settings.POOLING = FAST


class Start(Protocol):
    def __call__(self, engine: str = "sqlite3", **options: Any) -> Member: ...


@pytest.fixture
def start(database_settings: DatabaseSettings, cache_folder: Path) -> Iterator[Start]:
    """A function that starts a process of the fleet, on a database of its own."""
    members: list[Member] = []

    def start(engine: str = "sqlite3", **options: Any) -> Member:
        overrides = {"OPTIONS": {"pool": options}}
        entry = database_settings(f"pooling.backends.{engine}", **overrides)
        member = Member(entry, file_cache(cache_folder), FAST)
        members.append(member)
        return member

    yield start
    for member in members:
        member.end()
