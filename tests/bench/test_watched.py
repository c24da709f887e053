"""The contender that is watched while it works takes part on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooling.bench.adapters.base import RunConfig
from pooling.bench.contenders import CONTENDERS, USUAL
from pooling.bench.measurements import Trial
from pooling.bench.polling import wait_until
from pooling.bench.processes import WorkerProcess
from pooling.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

WATCHED = CONTENDERS["pooled-watched"]


def test_it_takes_part_only_if_it_is_named() -> None:
    assert WATCHED not in USUAL
    assert CONTENDERS["pooled"] in USUAL


def test_it_publishes_while_it_works_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    config = RunConfig(vendor="sqlite", entry={"NAME": str(tmp_path / "db.sqlite3")}, pool_size=2)
    trial = Trial(workload=WORKLOADS["connect"], iterations=3, seconds=None, seed="x")
    with WorkerProcess(WATCHED.path()) as process:
        process.start()
        process.ready()
        process.ask(10, "open", config)
        assert not process.ask(10, "trial", trial).phases["connect"].errors
        assert wait_until(lambda: bool(list(tmp_path.glob("poolbench-*/*.djcache"))))
        process.ask(10, "close")
    assert list(tmp_path.glob("poolbench-*")) == []
