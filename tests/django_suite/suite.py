"""Django's test suite as something to call: fetch it, run it, read what came out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import django

CHECKOUT = Path(__file__).resolve().parents[2]
FETCH_TIMEOUT = 300.0
ALIASES = ("default", "other")


class SuiteError(RuntimeError):
    """The suite could not be fetched or run."""


@dataclass(frozen=True)
class Outcomes:
    """What became of the tests of one run.

    Attributes:
        log: where its output is.
        failed: test ids with their tracebacks.
        skipped: test ids with their reasons.
        passed: test ids; expected failures are among them.
        declared: the reasons for which the pooled backend's features skip tests of Django's.
        complaint: why the run is not to be trusted, if it is not.
        seconds: how long it took.
    """

    log: Path
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)
    declared: set[str] = field(default_factory=set)
    complaint: str = ""
    seconds: float = 0.0

    @property
    def seen(self) -> set[str]:
        return self.passed | self.failed.keys() | self.skipped.keys()


def fetch() -> Path:
    """Return the folder with the source of the installed Django, downloaded if need be.

    Only the source distribution holds the tests. It is kept in the virtual environment, so that
    later runs need no network; without one, or if that is somebody else's, below the folder for
    temporary files.
    """
    version = django.get_version()
    cache = _cache()
    source = cache / f"django-{version}"
    if not source.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            archive = _download(version, Path(scratch))
            with tarfile.open(archive) as tar:
                # Python 3.11.4 and later can keep an archive from writing elsewhere.
                tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
                tar.extractall(scratch)
            # Renamed into place when complete: an interrupted download is not taken for a good one.
            with suppress(FileExistsError):  # another run was quicker
                next(Path(scratch).glob("*/tests")).parent.rename(source)
    return source


def _cache() -> Path:
    """Return a folder of the present user's own."""
    environment = Path(sys.prefix)
    if sys.prefix != sys.base_prefix and environment.stat().st_uid == os.getuid():
        folder = environment / "django-suite"
    else:
        folder = Path(tempfile.gettempdir()) / f"pooling-django-suite-{os.getuid()}"
    return _private_folder(folder)


def _private_folder(path: Path) -> Path:
    """Make a folder in a place where everybody may make one, and do not fall for another's."""
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if path.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise SuiteError(f"{path} belongs to somebody else, or can be written to by others")
    return path


def _download(version: str, folder: Path) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"),
        *("--no-deps", "--no-binary", "Django", "--dest", str(folder), f"Django=={version}"),
    ]
    try:
        pip = subprocess.run(
            command, capture_output=True, text=True, timeout=FETCH_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise SuiteError(f"pip took more than {FETCH_TIMEOUT:g} s for Django's source") from None
    archives = list(folder.glob("*.tar.gz"))
    if pip.returncode or not archives:
        raise SuiteError(
            f"pip could not fetch the source of Django {version}, which is needed once and then "
            f"kept in the virtual environment (`make test` fetches it):\n{pip.stderr}"
        )
    return archives[0]


def run(
    databases: dict[str, Any],
    *,
    driver: str,
    labels: list[str],
    parallel: int,
    timeout: float,
    name: str,
) -> Outcomes:
    """Run the suite in a process of its own and return the outcomes.

    Args:
        databases: the setting `DATABASES`.
        driver: the PostgreSQL driver, "psycopg" or "psycopg2".
        labels: what to run.
        parallel: in how many processes.
        timeout: seconds until the run is ended, with all the processes it has started.
        name: what to call the log; beside it goes what became of each test, as JSON lines.
    """
    source = fetch()
    logs = source.parent / "logs"
    logs.mkdir(exist_ok=True)
    log, outcomes = logs / f"{name}.log", logs / f"{name}.jsonl"
    outcomes.write_text("")
    started = time.monotonic()
    code, complaint = None, ""
    with tempfile.TemporaryDirectory(prefix="pooling-django-suite-") as folder:
        environment = {
            # Neither libpq's variables nor somebody's settings shall decide what is tested.
            **{key: value for key, value in os.environ.items() if not key.startswith("PG")},
            "PYTHONPATH": str(CHECKOUT),
            "TMPDIR": folder,
            "TEST_DRIVER": driver,
            "DJANGO_SUITE_DATABASES": json.dumps(databases),
            "DJANGO_SUITE_OUTCOMES": str(outcomes),
        }
        command = [
            *(sys.executable, "runtests.py", "--settings", "tests.django_suite.settings"),
            *("--noinput", "--verbosity", "2", "--timing", "--parallel", str(parallel), *labels),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=source / "tests",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own group, which can be ended as a whole
            )
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                complaint = f"it was ended after {timeout:g} s"
            else:
                if code not in (0, 1):
                    complaint = f"it ended with exit code {code}"
            finally:
                if process.returncode is None:
                    # Not waited for yet, so nobody else can have been given the number.
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    found = _read(outcomes)
    if code == 1 and not found["failed"]:
        complaint = "it failed before or after the tests"
    return Outcomes(**found, log=log, complaint=complaint, seconds=time.monotonic() - started)


def _read(file: Path) -> dict[str, Any]:
    failed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    passed: set[str] = set()
    declared: set[str] = set()
    for line in file.read_text().splitlines():
        with suppress(ValueError):  # the last line of a run that was killed
            record = json.loads(line)
            test, detail = record["test"], record["detail"]
            match record["outcome"]:
                case "failed":
                    failed[test] = detail
                case "skipped":
                    skipped[test] = detail
                case "declared":
                    declared.add(detail)
                case _:
                    passed.add(test)
    return {"failed": failed, "skipped": skipped, "passed": passed, "declared": declared}
