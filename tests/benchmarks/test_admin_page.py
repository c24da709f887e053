"""The benchmark of the admin page runs, with whatever cache servers there are."""

from __future__ import annotations

import subprocess
import sys

from tests.support.cache_servers import SERVERS


def test_it_prints_a_row_for_each_cache() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.admin_page", "--processes=3", "--times=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for kind in SERVERS:
        assert f"| {kind.title} | 3 | " in done.stdout or kind.missing() in done.stdout
