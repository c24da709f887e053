"""Contenders' processes do as they are told, and never outlive the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pooling.bench import environment, polling
from pooling.bench.adapters.base import RunConfig
from pooling.bench.contenders import CONTENDERS
from pooling.bench.measurements import Trial
from pooling.bench.processes import WorkerFailedError, WorkerProcess, WorkerStoppedError
from pooling.bench.workloads import WORKLOADS
from tests.bench import misbehaving
from tests.bench.conftest import is_gone
from tests.bench.misbehaving import contender

if TYPE_CHECKING:
    from pooling.bench.contenders import Contender

ROOT = Path(__file__).resolve().parents[2]
TRIAL = Trial(workload=WORKLOADS["connect"], iterations=3, seconds=None, seed="x")


def process_of(one: Contender) -> WorkerProcess:
    return WorkerProcess(one.path(), one.blocked)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(vendor="sqlite", entry={"NAME": str(tmp_path / "db.sqlite3")}, pool_size=1)


def test_works_and_ends(config: RunConfig) -> None:
    with process_of(CONTENDERS["stock"]) as process:
        process.start()
        process.ready()
        pid = process.pid
        process.ask(10, "open", config)
        report = process.ask(10, "trial", TRIAL)
        assert len(report.phases["connect"].latencies) == 3
        opened = process.ask(10, "close")
        assert opened is not None
        assert (opened.opened, opened.peak) == (3, 1)
    assert pid is not None
    assert is_gone(pid)
    process.end()


def test_one_that_hangs_is_killed_and_stays_so(config: RunConfig) -> None:
    with process_of(contender(misbehaving.Hanging)) as process:
        process.start()
        process.ready()
        pid = process.pid
        process.ask(10, "open", config)
        with pytest.raises(WorkerStoppedError, match=r"no answer within 0\.2 s"):
            process.ask(0.2, "trial", TRIAL)
        assert pid is not None
        assert is_gone(pid)
        with pytest.raises(WorkerStoppedError, match="not running"):
            process.ask(10, "close")


def test_one_that_fails_can_be_asked_again(config: RunConfig) -> None:
    with process_of(contender(misbehaving.Refusing)) as process:
        process.start()
        process.ready()
        for _ in range(2):
            with pytest.raises(WorkerFailedError, match="ValueError: no such pool"):
                process.ask(10, "open", config)


@pytest.mark.parametrize("name", ["pooled", "pooled-psycopg2"])
def test_each_has_its_own_driver(name: str, postgresql_url: str) -> None:
    """Which one Django has chosen shows in what it raises."""
    from tests.support.servers import settings_from_url

    entry = settings_from_url(postgresql_url, "pooling.backends.postgresql")
    config = RunConfig(vendor="postgresql", entry={**entry, "NAME": "missing"}, pool_size=1)
    with process_of(CONTENDERS[name]) as process:
        process.start()
        process.ready()
        process.ask(10, "open", config)
        [text] = process.ask(10, "trial", TRIAL).phases["connect"].errors
        assert 'database "missing" does not exist' in text
        # psycopg 3 names the config in another adapter.
        assert ("connection failed" in text) == (name == "pooled")


def test_they_die_with_the_one_that_started_them(tmp_path: Path) -> None:
    script = f"""
import django
from django.conf import settings

settings.configure()
django.setup()

from pooling.bench.processes import WorkerProcess
from pooling.bench.measurements import Trial
from pooling.bench.adapters.base import RunConfig
from pooling.bench.workloads import WORKLOADS
from tests.bench.misbehaving import Hanging, contender

process = WorkerProcess(contender(Hanging).path())
process.start()
process.ready()
entry = {{"NAME": {str(tmp_path / "db")!r}}}
process.ask(10, "open", RunConfig(vendor="sqlite", entry=entry, pool_size=1))
print(process.pid, flush=True)
trial = Trial(workload=WORKLOADS["connect"], iterations=3, seconds=None, seed="x")
process.ask(60, "trial", trial)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate(timeout=10)
    assert is_gone(pid)


def test_one_that_dies_is_reported_with_its_last_line(config: RunConfig) -> None:
    with process_of(contender(misbehaving.Dying)) as process:
        process.start()
        process.ready()
        process.ask(10, "open", config)
        with pytest.raises(WorkerStoppedError, match=r"has ended \(7\): something is rotten"):
            process.ask(10, "trial", TRIAL)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux pins")
def test_a_pinned_one_uses_its_processors_alone(config: RunConfig) -> None:
    [cpu, *_] = os.sched_getaffinity(0)
    with process_of(CONTENDERS["stock"]) as process:
        process.start()
        process.ready()
        process.ask(10, "open", replace(config, cpus=(cpu,)))
        assert process.pid is not None
        assert os.sched_getaffinity(process.pid) == {cpu}
        report = process.ask(10, "trial", TRIAL)
        assert not report.phases["connect"].errors


def test_processors_are_shared_out_between_the_load_and_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for cpus, load, others in (((0, 1), (1,), (0,)), ((2, 4, 6), (4, 6), (2,)), ((3,), (3,), (3,))):
        monkeypatch.setattr(environment, "PROCESSORS", cpus)
        assert environment.processors(load=True) == load
        assert environment.processors(load=False) == others


@pytest.mark.parametrize(("loads", "said"), [([1.0], 0), ([9.0, 9.0, 9.0, 1.0], 1)])
def test_a_busy_machine_is_waited_for(
    loads: list[float], said: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = list(loads)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (pending.pop(0) if pending[1:] else pending[0],))
    monkeypatch.setattr(polling.time, "sleep", lambda _seconds: None)
    texts: list[str] = []
    environment.wait_until_quiet(texts.append)
    assert len(texts) == said
    assert pending == loads[-1:]


@pytest.mark.skipif(environment.find_program("pgbouncer") is None, reason="there is no pgbouncer")
def test_a_pgbouncer_ends_with_its_process_and_leaves_no_password() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bouncer-", dir="/tmp"))
    folder.chmod(0o777)  # PgBouncer does not run as root
    script = f"""
import os
import signal
from pathlib import Path

from pooling.bench.adapters import pgbouncer

pgbouncer.temporary_parent = lambda _account: Path({str(folder)!r})
pgbouncer.PrivatePgBouncer({{"USER": "x", "PASSWORD": "y", "HOST": "127.0.0.1"}}, 1, 1)
print(len(os.listdir({str(folder)!r})), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "1\n"), done.stderr
    assert polling.wait_until(lambda: not list(folder.iterdir()))
    folder.rmdir()
