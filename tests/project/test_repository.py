"""Rules for all files of the repository."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.project.conftest import REPOSITORY

# With character classes, so that this file does not match itself.
HOSTS = re.compile(
    r"pypi[.]org|pythonhosted[.]org|npm[j]s|debian[.]org|crates[.]io|rubygems[.]org|golang[.]org"
)


def test_no_file_names_the_host_of_a_package_index() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = REPOSITORY / name
        if path.is_file() and (match := HOSTS.search(path.read_text(errors="replace"))):
            found.append(f"{name}: {match[0]}")
    assert found == []
