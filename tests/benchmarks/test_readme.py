"""The README's table and chart come from a run and from nowhere else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from pooling.bench.reports.charts import chart
from pooling.bench.reports.html import render_chart
from tests.bench.reports.samples import document, empty, hostile
from tests.benchmarks import readme

if TYPE_CHECKING:
    from pathlib import Path

BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"
FRAME = f"# Title\n\n{BEGIN}\nold\n{END}\n\nend\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text(FRAME)
    (tmp_path / "results.json").write_text(json.dumps(document()))
    return tmp_path


def run(root: Path, *arguments: str) -> int:
    return readme.main([str(root / "results.json"), "--root", str(root), *arguments])


def test_the_block_is_replaced_and_the_rest_is_left_alone(root: Path) -> None:
    assert run(root) == 0
    text = (root / "README.md").read_text()

    assert text.startswith(f"# Title\n\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\n\nend\n")
    assert "old" not in text
    assert "PostgreSQL · CRUD · 8 threads:" in text
    assert re.search(r"\| Stock Django +\| +3 \| +877 \| +baseline \|", text)
    assert f"{BEGIN}\n- Gain " in text
    assert text.index("PostgreSQL · CRUD") < text.index("SQLite · CRUD")


def test_every_row_has_as_many_columns_as_its_header_and_errors_are_among_them() -> None:
    given = document()
    tables = [
        part.splitlines()
        for part in readme.block(given, readme.choose(given)).split("\n\n")
        if part.startswith("|")
    ]
    assert tables
    for header, *rows in tables:
        assert header.endswith("| errors |")
        assert {row.count(" |") for row in rows} == {header.count(" |")}


def test_the_same_run_gives_the_same_readme(root: Path) -> None:
    run(root)
    once = (root / "README.md").read_text(), (root / readme.CHART).read_text()
    run(root)

    assert once == ((root / "README.md").read_text(), (root / readme.CHART).read_text())


def test_the_chart_stands_alone_by_day_and_by_night(root: Path) -> None:
    run(root)
    chart = (root / readme.CHART).read_text()

    assert ET.fromstring(chart).tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme:dark" in chart
    assert "url(" not in chart
    assert chart.count("http") == 1  # the namespace


def test_workload_and_threads_can_be_chosen(root: Path) -> None:
    assert run(root, "--workload", "connect", "--threads", "8") == 0
    assert "PostgreSQL · Connect · 8 threads:" in (root / "README.md").read_text()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nothing", "<!-- benchmark:begin --> 0 times"),
        (BEGIN, "<!-- benchmark:end --> 0 times"),
        (BEGIN + FRAME, "<!-- benchmark:begin --> 2 times"),
        (END + BEGIN, "has to come after"),
    ],
)
def test_a_readme_without_a_place_is_not_touched(
    root: Path, text: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "README.md").write_text(text)

    assert run(root) == 1
    assert problem in capsys.readouterr().err
    assert (root / "README.md").read_text() == text
    assert not (root / readme.CHART).exists()


def test_what_cannot_be_used_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "--workload", "sleep") == 1
    assert "no results of workload 'sleep'" in capsys.readouterr().err
    for content in (json.dumps(empty()), "[]", "{"):
        (root / "results.json").write_text(content)
        assert run(root) == 1
    (root / "README.md").unlink()
    (root / "results.json").write_text(json.dumps(document()))
    assert run(root) == 1
    assert "there is no" in capsys.readouterr().err


def test_texts_are_escaped() -> None:
    given = hostile()
    tables = readme.choose(given)

    assert "<script" not in readme.block(given, tables)
    drawn = chart(given, tables[0])
    assert drawn is not None
    assert "<script" not in render_chart(drawn)


def test_it_runs_without_django_being_set_up(root: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.readme", str(root / "results.json")]
    done = subprocess.run(
        [*command, "--root", str(root)], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")
