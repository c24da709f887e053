"""PostGIS and SpatiaLite with a pool, on real servers and files."""

from __future__ import annotations

import ctypes.util
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from django.db.utils import ConnectionHandler

from pooling.core.config import SCOPES
from tests.django_suite.__main__ import main
from tests.support.databases import PostgresDatabase
from tests.support.postgis import PostgisServer, programs
from tests.support.projects import Project
from tests.support.servers import settings_from_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIBRARIES = all(map(ctypes.util.find_library, ("gdal", "geos_c")))
SCRIPT = """
from concurrent.futures import ThreadPoolExecutor
from django.contrib.gis.geos import Point
from django.db import close_old_connections, connection
from pooling import get_pool
from things.models import Place

connection.prepare_database()
with connection.schema_editor() as editor:
    editor.create_model(Place)
close_old_connections()

def request(number):
    Place.objects.create(name=str(number), point=Point(number, number, srid=4326))
    close_old_connections()
    near = Place.objects.filter(point__dwithin=(Point(number, number, srid=4326), 0.5))
    assert [place.point.x for place in near] == [number]
    close_old_connections()

with ThreadPoolExecutor(8) as threads:
    list(threads.map(request, range(20)))
pool = get_pool()
assert Place.objects.count() == 20
close_old_connections()
stats = pool.stats()
assert stats.size <= stats.max_size == 2, stats
assert stats.acquired >= 40, stats
"""
MODELS = """
from django.contrib.gis.db import models

class Place(models.Model):
    name = models.CharField(max_length=100)
    point = models.PointField()
"""
needs_libraries = pytest.mark.skipif(not LIBRARIES, reason="needs GDAL and GEOS")


@pytest.fixture(scope="module")
def postgis_server() -> Iterator[PostgisServer]:
    if programs() is None:
        pytest.skip("needs Debian's package `postgresql-postgis`")
    with PostgisServer() as server:
        yield server


def geo_project(folder: Path, entry: dict[str, Any], engine: str) -> Project:
    pool = {"pool": {"max_size": 2, "timeout": 30}}
    project = Project(folder, {"default": {**entry, "ENGINE": engine, "OPTIONS": pool}})
    project.write("things/models.py", MODELS)
    settings = project.folder / "settings.py"
    settings.write_text(settings.read_text() + "\nINSTALLED_APPS += ['django.contrib.gis']\n")
    return project


@needs_libraries
@pytest.mark.parametrize("scope", ["request", "transaction"])
def test_postgis(tmp_path: Path, postgis_server: PostgisServer, scope: str) -> None:
    entry = settings_from_url(postgis_server.url, "")
    options = entry["OPTIONS"]
    name = f"gis_{scope}"
    handler = ConnectionHandler({"default": {**entry, "ENGINE": "pooling.backends.postgresql"}})
    server = PostgresDatabase(handler.settings["default"], postgis_server.url)
    server.execute(f"CREATE DATABASE {name}")
    project = geo_project(tmp_path, {**entry, "NAME": name}, "pooling.backends.postgis")
    settings = project.folder / "settings.py"
    settings.write_text(
        settings.read_text()
        + f"\nDATABASES['default']['OPTIONS'].update({options!r})"
        + f"\nDATABASES['default']['OPTIONS']['pool']['scope'] = '{scope}'\n"
    )
    project.script(SCRIPT)
    server.close()


@pytest.fixture
def spatialite() -> None:
    """Skip where the library cannot be loaded."""
    if not hasattr(sqlite3.Connection, "enable_load_extension"):
        pytest.skip("this Python's sqlite3 was built without extensions")
    connection = sqlite3.connect(":memory:")
    connection.enable_load_extension(True)
    try:
        connection.load_extension("mod_spatialite")
    except sqlite3.OperationalError:
        pytest.skip("needs Debian's package `libsqlite3-mod-spatialite`")
    finally:
        connection.close()


@needs_libraries
def test_spatialite(tmp_path: Path, spatialite: None) -> None:
    entry = {"NAME": str(tmp_path / "geo.sqlite3")}
    geo_project(tmp_path / "project", entry, "pooling.backends.spatialite").script(SCRIPT)


# ---- Django's own tests, which are called `gis_tests` ------------------------------------------


@pytest.mark.slow
@needs_libraries
def test_djangos_own_tests_pass_on_postgis(
    postgis_server: PostgisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(capsys, "--engine", "postgis", "--url", postgis_server.url)


@pytest.mark.slow
@needs_libraries
def test_djangos_own_tests_pass_on_spatialite(
    spatialite: None, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(capsys, "--engine", "spatialite")


def compare(capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
    """Run them on the stock engine, and in both scopes on the pooled one."""
    for scope in SCOPES:
        arguments = (*arguments, "--scope", scope)
    good = main(["gis_tests", *arguments]) == 0
    output = capsys.readouterr().out
    assert good, output
    assert output.endswith("no differences\n")
