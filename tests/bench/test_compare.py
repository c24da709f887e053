"""Two runs are compared by their ratios to the baseline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError

from tests.bench.reports.samples import document, result
from tests.bench.test_poolbench import poolbench

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, ratio: float, threads: int = 8) -> str:
    found: Any = document()
    one = {"ratio": ratio, "ratio_low": ratio * 0.98, "ratio_high": ratio * 1.02}
    names = ("stock", {}), ("pooled", one)
    found["results"] = [result(name, "connect", threads, **changes) for name, changes in names]
    path.write_text(json.dumps(found))
    return str(path)


@pytest.fixture
def old(tmp_path: Path) -> str:
    return write(tmp_path / "old.json", 10.0)


def test_a_ratio_that_has_become_smaller_fails(old: str, tmp_path: Path) -> None:
    new = write(tmp_path / "new.json", 8.5)

    out, _ = poolbench("--compare", old, new)
    assert out == (
        "pooled (PostgreSQL, connect, 8 threads): 0.85 (0.82-0.88) times the old ratio\n"
    )
    poolbench("--compare", old, new, "--fail-below=0.8")
    with pytest.raises(CommandError, match=r"less than 0.9 times the old ratio: pooled \(Postgre"):
        poolbench("--compare", old, new, "--fail-below=0.9")


def test_a_small_change_is_no_difference(old: str, tmp_path: Path) -> None:
    out, _ = poolbench("--compare", old, write(tmp_path / "new.json", 10.2), "--fail-below=0.9")

    assert out.endswith("times the old ratio, no difference\n")


def test_what_cannot_be_compared_is_said(old: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="have no measurement in common"):
        poolbench("--compare", old, write(tmp_path / "new.json", 10.0, threads=1))
    (tmp_path / "new.json").write_text('{"schema": 1}')
    with pytest.raises(CommandError, match="no result document of schema 2; write one by --json"):
        poolbench("--compare", old, str(tmp_path / "new.json"))
