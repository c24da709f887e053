"""The demo project's settings, read by fresh interpreters in environments of the tests' making."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SECRET_KEY = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
PRODUCTION = {"SECRET_KEY": SECRET_KEY, "ALLOWED_HOSTS": "pooling.example.com"}

PRINT_SETTINGS = """
import json
from poolproject import settings
names = {name: value for name, value in vars(settings).items() if name.isupper()}
print(json.dumps(names, default=str))
"""


@dataclass(frozen=True)
class Project:
    """A copy of the project's own files, where no developer's ``.env`` gets into the way."""

    path: Path

    def python(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run an interpreter that sees the given variables and no others of the project's."""
        search = [str(self.path), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
        return subprocess.run(
            [sys.executable, "-W", "error", *args],
            cwd=self.path,
            env={"PYTHONPATH": os.pathsep.join(filter(None, search)), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def manage(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.python("manage.py", *args, **environment)

    def settings(self, **environment: str) -> dict[str, Any]:
        result = self.python("-c", PRINT_SETTINGS, **environment)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def error(self, **environment: str) -> str:
        """Return the last lines of the traceback: what somebody reads who started the project."""
        result = self.python("-c", PRINT_SETTINGS, **environment)
        assert result.returncode != 0
        _, separator, message = result.stderr.rpartition("ImproperlyConfigured: ")
        assert separator, result.stderr
        return message


@pytest.fixture
def project(tmp_path: Path) -> Project:
    shutil.copy(REPOSITORY / "manage.py", tmp_path)
    shutil.copytree(REPOSITORY / "poolproject", tmp_path / "poolproject")
    return Project(tmp_path)
