"""The project's own views and callables, on its own database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections

from tests.bench.test_poolbench import poolbench

if TYPE_CHECKING:
    from pathlib import Path

OWN = "tests.bench.own_work"
SMALL = ("--rounds=1", "--duration=0.2", "--threads=2", "--contender=stock,pooled")


def results(tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    file = tmp_path / "own.json"
    poolbench(*SMALL, f"--json={file}", *arguments)
    found: list[dict[str, Any]] = json.loads(file.read_text())["results"]
    return found


@pytest.mark.parametrize("alias", ["default", "postgresql"])
def test_a_callable_is_a_requests_work_with_each_contender(alias: str, tmp_path: Path) -> None:
    found = results(tmp_path, f"--workload={OWN}:query", f"--database={alias}")

    assert [(each["contender"], each["workload"]) for each in found] == [
        ("stock", "own"),
        ("pooled", "own"),
    ]
    for each in found:
        assert each["operations"] > 0
        assert (each["errors"], each["note"]) == (0, None)


def test_its_hooks_are_called_once_for_each_contender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("OWN_WORK_LOG", str(log))
    results(tmp_path, f"--workload={OWN}:Hooked")
    lines = log.read_text().splitlines()

    assert lines.count("set_up") == lines.count("clean_up") == 2
    assert set(lines) - {"set_up", "clean_up"} == {
        "django.db.backends.sqlite3",
        "pooling.backends.sqlite3",
    }


@pytest.mark.parametrize("atomic", [True, False])
def test_the_projects_settings_of_requests_are_kept(
    *, atomic: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("OWN_WORK_LOG", str(log))
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic)
    results(tmp_path, f"--workload={OWN}:note_atomic_requests")

    assert set(log.read_text().split()) == {str(atomic)}


def test_a_view_answers_with_all_middleware(tmp_path: Path) -> None:
    found = results(tmp_path, "--url=/login/")

    assert [each["contender"] for each in found] == ["stock", "pooled"]
    for each in found:
        assert (each["errors"], each["note"]) == (0, None)
        assert each["operations"] > 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--url=/no/such/page/"], "GET /no/such/page/ answered 404"),
        ([f"--workload={OWN}:fail"], "LookupError: no such order"),
    ],
)
def test_work_that_fails_is_an_error_and_not_a_result(
    arguments: list[str], error: str, tmp_path: Path
) -> None:
    for each in results(tmp_path, *arguments):
        assert each["operations"] == 0
        assert each["errors"] > 0
        assert error in each["note"]
