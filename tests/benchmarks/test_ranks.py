"""Two runs are compared pair by pair: a tie in one of them agrees with either order."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING

import pytest

from tests.bench.reports.samples import document, empty
from tests.benchmarks import ranks

if TYPE_CHECKING:
    from pathlib import Path

FRAME = "# Title\n\n<!-- ranks:begin -->\nold\n<!-- ranks:end -->\n\nend\n"


@pytest.mark.parametrize(
    ("second", "verdict"),
    [
        ({"a": 1, "b": 2, "c": 3}, ranks.SAME),
        ({"a": 1, "b": 1, "c": 3}, ranks.TIES),
        ({"a": 1, "b": 1, "c": 1}, ranks.TIES),
        ({"a": 1, "b": 2}, ranks.TIES),
        ({"b": 1, "a": 2, "c": 3}, ranks.CONTRADICTION),
        ({"a": 1, "c": 2, "b": 3}, ranks.CONTRADICTION),
    ],
)
def test_only_a_pair_in_the_opposite_order_contradicts(second: ranks.Ranks, verdict: str) -> None:
    assert ranks.agreement({"a": 1, "b": 2, "c": 3}, second) == verdict


def test_the_page_gets_the_ranks_of_both_runs(tmp_path: Path) -> None:
    page = tmp_path / ranks.PAGE
    page.parent.mkdir()
    page.write_text(FRAME)
    first, second = document(), copy.deepcopy(document())
    ranked = [each for each in second["results"] if each["rank"]]
    ranked[0]["rank"], ranked[1]["rank"] = ranked[1]["rank"], ranked[0]["rank"]
    for name, each in {"first": first, "second": second}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(each))
    files = [str(tmp_path / f"{name}.json") for name in ("first", "second")]

    assert ranks.main([*files, "--root", str(tmp_path)]) == 0
    text = page.read_text()
    assert text.startswith("# Title\n\n<!-- ranks:begin -->\n| table")
    assert text.endswith("<!-- ranks:end -->\n\nend\n")
    assert "; 1 contradict." in text
    assert "; again at " in text


def test_runs_without_a_table_in_common_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / ranks.PAGE
    page.parent.mkdir()
    page.write_text(FRAME)
    (tmp_path / "results.json").write_text(json.dumps(document()))
    (tmp_path / "empty.json").write_text(json.dumps(empty()))
    files = [str(tmp_path / "results.json"), str(tmp_path / "empty.json")]
    assert ranks.main([*files, "--root", str(tmp_path)]) == 1
    assert "no table in common" in capsys.readouterr().err
    assert page.read_text() == FRAME
