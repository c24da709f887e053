"""A small Django project in a folder of its own, run by the real commands in fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 90.0
"""After which a process hangs, as far as we are concerned."""

SETTINGS = """
from pathlib import Path
from tests.servers import choose_driver

choose_driver()
DATABASES = {databases!r}
PRODUCTION = str(DATABASES["default"]["NAME"])
INSTALLED_APPS = ["pooling", "things"]
SECRET_KEY = "only for tests"
ROOT_URLCONF = "urls"
ALLOWED_HOSTS = ["*"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
USE_TZ = True
"""
MODELS = """
from django.db import models

class Thing(models.Model):
    name = models.CharField(max_length=100)
"""
APPS = """
from django.apps import AppConfig

class ThingsConfig(AppConfig):
    name = "things"
    default = True

    def ready(self):
        {ready}
"""
URLS = """
from django.http import JsonResponse
from django.urls import path

def view(request):
    from things.models import Thing
    return JsonResponse({"things": Thing.objects.count()})

urlpatterns = [path("", view)]
"""
MANAGE = """
import os, sys
from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
execute_from_command_line(sys.argv)
"""
HELPERS = """
import os, sys, threading, traceback, warnings
from django.db import connection, connections, transaction
from pooling import get_pool
from things.models import Thing

def session():
    '''What the server knows of our session; for SQLite, the file descriptors of the process.'''
    connection.ensure_connection()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return cursor.fetchone()[0]
    return id(connection.connection)

def in_child(function):
    '''Run a function in a forked child, which then ends as an ordinary interpreter does.'''
    import multiprocessing
    process = multiprocessing.get_context("fork").Process(target=function)
    process.start()
    process.join(30)
    assert process.exitcode == 0, process.exitcode
"""
"""What most scripts need."""


class Project:
    """Files, and processes that run in them.

    Args:
        ready: Python code that the app's `AppConfig.ready()` runs.
    """

    def __init__(self, folder: Path, databases: dict[str, Any], *, ready: str = "pass") -> None:
        self.folder = folder
        self.databases = databases
        indented = textwrap.indent(textwrap.dedent(ready).strip(), " " * 8).strip()
        self.write("settings.py", SETTINGS.replace("{databases!r}", repr(databases)))
        self.write("things/__init__.py", "")
        self.write("things/apps.py", APPS.replace("{ready}", indented))
        self.write("things/models.py", MODELS)
        self.write("urls.py", URLS)
        self.write("manage.py", MANAGE)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))

    def environment(self) -> dict[str, str]:
        search = [str(self.folder), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, search)),
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def command(self, *args: str, strict: bool = True) -> list[str]:
        """Return the command line of an interpreter; `strict` turns warnings into errors."""
        return [sys.executable, *(["-X", "dev", "-W", "error"] if strict else []), *args]

    def python(
        self, *args: str, code: int = 0, strict: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run an interpreter to its end, which must come with the exit code."""
        result = subprocess.run(
            self.command(*args, strict=strict),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert result.returncode == code, f"{result.stdout}\n{result.stderr}"
        return result

    def manage(self, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.python("manage.py", *args, code=code)

    def script(self, text: str, *, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a script with Django set up; stderr must stay empty if it is to end well."""
        self.write("script.py", "import django\ndjango.setup()\n" + textwrap.dedent(text))
        result = self.python("script.py", code=code)
        if code == 0:
            assert result.stderr == "", result.stderr
        return result

    def migrate(self) -> None:
        """Make the tables in the database of the settings."""
        self.manage("migrate", "--run-syncdb", "--verbosity", "0")
