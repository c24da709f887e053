"""The wheel, built from the tree and installed next to Django and nothing else."""

from __future__ import annotations

import re
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import django
import pytest

import pooling
from tests.packaging.conftest import REPOSITORY, metadata_of, run

if TYPE_CHECKING:
    from email.message import Message

MOST_LINES = 24_500
"""A wheel that has grown by a tenth should not go unnoticed."""
VENDORED = "pooling/static/pooling/uplot/"
TEXT = {".py", ".html", ".css", ".js", ".txt", ".md"}

USE = """
import django
django.setup()
from importlib.metadata import distribution, packages_distributions, version
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from pooling import get_pool, __file__ as location, __version__

assert version("django-pooling") == __version__
assert packages_distributions()["pooling"] == ["django-pooling"]
get_user_model().objects.create_superuser("someone", password="something")
client = Client()
# Before Django's test client keeps connections open for its tests.
assert client.get("/admin/login/").status_code == 200
client.force_login(get_user_model().objects.get())
for _ in range(3):
    assert client.get("/admin/").status_code == 200
    connection.close()
stats = get_pool().stats()
assert (stats.connects, stats.leased) == (1, 0), stats
print(location)
"""


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        return metadata_of(archive.read(name).decode())


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"pooling"}
    assert "pooling/py.typed" in names
    # What is no code (templates, styles) is included as it is in the tree.
    tree = {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "pooling").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("pooling/")} == tree


def test_the_wheel_is_small(wheel: Path) -> None:
    """What maintainers need stays in `tests`. A vendored library is not counted."""
    with zipfile.ZipFile(wheel) as archive:
        lines = sum(
            archive.read(name).count(b"\n")
            for name in archive.namelist()
            if name.startswith("pooling/")
            and not name.startswith(VENDORED)
            and Path(name).suffix in TEXT
        )
    assert lines <= MOST_LINES


def test_the_distribution_has_a_name_of_its_own(wheel: Path, metadata: Message) -> None:
    """The distribution is `django-pooling`: `pooling` on the package index is another project."""
    assert wheel.name == f"django_pooling-{pooling.__version__}-py3-none-any.whl"
    assert metadata["Name"] == "django-pooling"
    assert metadata["Version"] == pooling.__version__


def test_only_django_is_required_and_the_extras_bring_the_rest(metadata: Message) -> None:
    required = metadata.get_all("Requires-Dist")
    assert [line for line in required if "extra ==" not in line] == ["django<6.2,>=5.2"]
    extras = set(metadata.get_all("Provides-Extra"))
    assert extras == {
        *("bench", "debug-toolbar", "demo", "dev", "opentelemetry", "prometheus"),
        *("psycopg", "psycopg2", "mysqlclient", "pymysql"),
    }
    drivers = {line for line in required if "psycopg" in line}
    assert any(line.startswith("psycopg[binary]") for line in drivers)
    assert any(line.startswith("psycopg2-binary") for line in drivers)


def test_nothing_advises_to_install_the_other_project() -> None:
    wrong = re.compile(r"install(?: -\S+)* [\"']?pooling\b")
    files = [*(REPOSITORY / "pooling").rglob("*.py"), *(REPOSITORY / "docs").glob("*.md")]
    advice = [
        f"{path.relative_to(REPOSITORY)}: {line.strip()}"
        for path in files
        for line in path.read_text().splitlines()
        if wrong.search(line) and "uninstall" not in line
    ]
    assert advice == []


def test_the_long_description_has_no_relative_links(metadata: Message) -> None:
    """On a package index a relative link leads nowhere."""
    description = metadata.get_payload()
    assert isinstance(description, str)
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert description.startswith("# django-pooling\n")
    links = re.findall(r"\]\(([^)]+)\)|(?:src|href)=[\"']([^\"']+)", description)
    assert [link for pair in links for link in pair if link and "://" not in link] == []
    assert "django-pooling[psycopg]" in description


def test_addresses_of_the_project_are_real(metadata: Message) -> None:
    """There may be none, as long as the project has no public address, but no invented one."""
    for entry in metadata.get_all("Project-URL") or []:
        address = entry.partition(", ")[2]
        assert address.startswith("https://")
        assert not re.search(r"example\.|localhost|127\.0\.0\.1|\.invalid", address)


@pytest.mark.slow  # it installs Django
def test_a_fresh_project_works_with_the_pooled_sqlite_engine(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True, symlinks=True)
    python = environment / "bin" / "python"
    run(
        *(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *(wheel, f"Django=={django.__version__}"),
        cwd=tmp_path,
    )
    site = tmp_path / "site"
    site.mkdir()
    run(python, "-m", "django", "startproject", "fresh", site, cwd=tmp_path)
    settings = site / "fresh" / "settings.py"
    text = settings.read_text()
    assert text.count("django.db.backends.sqlite3") == 1
    text = text.replace("django.db.backends.sqlite3", "pooling.backends.sqlite3")
    text = text.replace("INSTALLED_APPS = [", "INSTALLED_APPS = [\n    'pooling',")
    settings.write_text(text.replace("ALLOWED_HOSTS = []", "ALLOWED_HOSTS = ['testserver']"))
    strict = (python, "-X", "dev", "-W", "error")
    run(*strict, "manage.py", "migrate", "--verbosity", "0", cwd=site)
    assert "no issues" in run(*strict, "manage.py", "check", cwd=site)
    location = run(*strict, "-c", USE, cwd=site, DJANGO_SETTINGS_MODULE="fresh.settings")
    assert Path(location.strip()).is_relative_to(environment)
    assert (site / "db.sqlite3").stat().st_size > 0
    run(*strict, "manage.py", "help", "poolbench", cwd=site)
