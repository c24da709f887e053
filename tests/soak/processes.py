# ruff: noqa: T201 - printing is what it is for
"""Run many short processes, each with one query, and count those that do not end well.

    python -m tests.soak.processes 1000 --python /usr/bin/python3

Every second one runs with `-X dev`, where freed memory is overwritten at once, so that a use after
the end shows. Another Python must be of the same version as this one, since it uses the packages
that are installed for this one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 60.0
"""After which a process hangs."""
MODES: tuple[tuple[str, ...], ...] = ((), ("-X", "dev"))
SCRIPT = """
import json, os
from tests.support.servers import choose_driver

choose_driver()
import django
from django.conf import settings

settings.configure(DATABASES={"default": json.loads(os.environ["SOAK_DATABASE"])}, USE_TZ=True)
django.setup()
from django.db import connection

with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
    assert cursor.fetchone() == (1,)
"""
VERSION = "import sys; print(*sys.version_info[:3], sep='.')"


def run(count: int, database: dict[str, Any], *, python: str, jobs: int) -> list[str]:
    """Run so many processes, `jobs` at a time; return what was wrong with each that failed."""
    environment = {
        **os.environ,
        "SOAK_DATABASE": json.dumps(database, default=str),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), sysconfig.get_path("purelib")]),
    }

    def run_one(number: int) -> str | None:
        options = MODES[number % len(MODES)]
        mode = " ".join(options) or "plain"
        try:
            ended = subprocess.run(
                [python, *options, "-c", SCRIPT],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{mode}: hung for {SECONDS:g} s"
        if ended.returncode:
            return f"{mode}: status {ended.returncode}: {ended.stderr[-2000:]}"
        return None

    with ThreadPoolExecutor(jobs) as executor:
        return [failure for failure in executor.map(run_one, range(count)) if failure]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("count", type=int)
    parser.add_argument("--python", default=sys.executable, help="the interpreter (this one)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    parser.add_argument("--engine", choices=["postgresql", "sqlite3"], default="postgresql")
    options = parser.parse_args()

    from tests.support.postgres import PrivatePostgres
    from tests.support.servers import settings_from_url

    version = subprocess.check_output([options.python, "-c", VERSION], text=True).strip()
    if version.split(".")[:2] != [str(number) for number in sys.version_info[:2]]:
        parser.error(f"{options.python} is Python {version}: start this with the same version")
    print(f"{options.count} processes on Python {version}, {options.engine}", flush=True)
    engine = f"pooling.backends.{options.engine}"
    if options.engine == "sqlite3":
        with tempfile.TemporaryDirectory() as folder:
            database = {"ENGINE": engine, "NAME": str(Path(folder) / "db.sqlite3")}
            failures = run(options.count, database, python=options.python, jobs=options.jobs)
    else:
        with PrivatePostgres() as server:
            database = settings_from_url(server.url, engine)
            failures = run(options.count, database, python=options.python, jobs=options.jobs)
    for failure, times in Counter(failures).most_common():
        print(f"{times} times: {failure}")
    print(f"{len(failures)} of {options.count} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
