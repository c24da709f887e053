"""The figures of docs/performance.md come from runs and from nowhere else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.bench.reports import samples
from tests.benchmarks import performance
from tests.benchmarks import test_micro_report as test_micro

FRAME = """# Performance

<!-- micro:begin -->
old
<!-- micro:end -->
between
<!-- http:begin -->
older
<!-- http:end -->
end
"""


def http_document() -> dict[str, Any]:
    """Return the sample as if its workloads had been the page of the demo."""
    found: Any = samples.document()
    results = [
        {**each, "workload": "http-1", "operation": "http-1"}
        for each in found["results"]
        if each["workload"] == "connect" and not each["sweep"]
    ]
    workloads = [{"name": "http-1", "title": "Users list", "what": "It was loaded."}]
    rows = [
        test_micro.row(title="Users list", what="requests per second", processor=None),
        test_micro.row(title="Users list", what="p99", processor=None, met=False),
    ]
    return {**found, "results": results, "workloads": workloads, "rows": rows}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / performance.PAGE).write_text(FRAME)
    (tmp_path / "micro.json").write_text(json.dumps(test_micro.document(test_micro.SHARE)))
    (tmp_path / "http.json").write_text(json.dumps(http_document()))
    return tmp_path


def run(root: Path, *names: str) -> int:
    return performance.main([*(str(root / name) for name in names), "--root", str(root)])


def test_both_blocks_are_replaced_and_the_rest_is_left_alone(root: Path) -> None:
    assert run(root, "http.json", "micro.json") == 0
    text = re.sub(" +", " ", (root / performance.PAGE).read_text())

    assert "old" not in text
    assert text.startswith("# Performance\n\n<!-- micro:begin -->\n| what | against |")
    assert "<!-- micro:end -->\nbetween\n<!-- http:begin -->\nUsers list. It was loaded." in text
    assert text.endswith("<!-- http:end -->\nend\n")
    assert "| contention: throughput | the ceiling |" in text
    assert "**missed** |" in text
    assert "| contender | requests/s |" in text
    assert "| what | against | ours | theirs | ratio | target | |\n" in text
    assert "| Users list: p99 | psycopg\\_pool |" in text
    assert "2 targets: 1 met, 1 missed." in text
    assert "A processor" in text


def test_one_alone_will_do(root: Path) -> None:
    assert run(root, "micro.json") == 0
    text = (root / performance.PAGE).read_text()

    assert "older" in text
    assert "old\n" not in text


def test_a_run_on_another_python_has_its_own_place(root: Path) -> None:
    document = test_micro.document(test_micro.SHARE, test_micro.SHOWN)
    python = document["environment"]["python"] = "CPython 3.99.1"
    (root / "newer.json").write_text(json.dumps(document))
    page = root / performance.PAGE
    page.write_text(f"{FRAME}<!-- micro-3.99:begin -->\n<!-- micro-3.99:end -->\n")

    assert run(root, "micro.json", "newer.json") == 0

    usual, newer = page.read_text().split("between")
    assert python not in usual
    assert python in newer
    assert "contention: throughput" in newer
    assert test_micro.SHOWN["title"] not in newer


def test_a_second_run_stands_beside_the_first(root: Path) -> None:
    row = {**test_micro.SHARE, "value": 0.77, "low": 0.7, "high": 0.8, "met": True}
    (root / "again.json").write_text(json.dumps(test_micro.document(row)))
    (root / "http-again.json").write_text(json.dumps(http_document()))

    assert run(root, "micro.json", "again.json", "http.json", "http-again.json") == 0

    text = re.sub(" +", " ", (root / performance.PAGE).read_text())
    assert "| **missed** | 0.77 (0.70-0.80), met |" in text
    assert ". Again: 1 target: 1 met, 0 missed. Of 1 verdict 0 are the same, " in text
    assert "; 1 contradict." in text
    assert "Of 2 verdicts 2 are the same, " in text
    assert "| errors | again | again p99 |" in text
    assert "; again at " in text


def test_a_third_run_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "micro.json", "micro.json", "micro.json") == 1
    assert "3 runs for micro" in capsys.readouterr().err
    assert (root / performance.PAGE).read_text() == FRAME


def test_the_same_run_gives_the_same_page(root: Path) -> None:
    run(root, "micro.json", "http.json")
    once = (root / performance.PAGE).read_text()
    run(root, "micro.json", "http.json")

    assert (root / performance.PAGE).read_text() == once


def test_every_row_has_as_many_columns_as_its_header() -> None:
    rows = (test_micro.row(), test_micro.MEMORY, test_micro.MISSING, test_micro.SHOWN)
    found = test_micro.document(*rows), http_document()
    for runs in [(each,) for each in found] + [(each, each) for each in found]:
        tables = [part for part in performance.block(*runs).split("\n\n") if part.startswith("|")]
        assert tables
        for header, *lines in map(str.splitlines, tables):
            assert {line.count(" |") for line in lines} == {header.count(" |")}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "load.json",
            json.dumps(samples.document()),
            "not a document of the suite micro or http",
        ),
        ("list.json", "[]", "is not a result document"),
        ("half.json", "{", "Expecting"),
        ("none.json", None, "No such file"),
    ],
)
def test_what_cannot_be_used_changes_nothing(
    root: Path, name: str, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (root / name).write_text(content)

    assert run(root, "micro.json", name) == 1

    assert message in capsys.readouterr().err
    assert (root / performance.PAGE).read_text() == FRAME


@pytest.mark.parametrize("page", [None, "no comments", FRAME + "<!-- micro:begin -->"])
def test_a_page_without_a_place_is_an_error(
    root: Path, page: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if page is None:
        (root / performance.PAGE).unlink()
    else:
        (root / performance.PAGE).write_text(page)

    assert run(root, "micro.json") == 1
    assert "performance.md" in capsys.readouterr().err


def test_the_page_of_this_project_has_a_place_for_both() -> None:
    text = (Path(__file__).parents[2] / performance.PAGE).read_text()

    for comment in ("micro:begin", "micro:end", "http:begin", "http:end"):
        assert text.count(f"<!-- {comment} -->") == 1
