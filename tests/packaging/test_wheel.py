"""The wheel, built from the tree and installed next to Django and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import django
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 300.0

USE = """
import django
django.setup()
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from pooling import get_pool, __file__ as location

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


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program that sees nothing of this checkout; return what it says."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "DJANGO", "TEST_", "PYTEST_"))
    }
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder),
        REPOSITORY,
        cwd=folder,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"pooling"}
    assert "pooling/py.typed" in names
    # Whatever is no code (templates, styles) comes along as it is in the tree.
    tree = {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "pooling").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("pooling/")} == tree
    required = [line for line in text.splitlines() if line.startswith("Requires-Dist:")]
    assert [line for line in required if "extra ==" not in line] == [
        "Requires-Dist: django<6.2,>=5.2"
    ]


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
