"""docs/benchmarking.md and the command say the same."""

from __future__ import annotations

import re
from pathlib import Path

from pooling.bench.reports import layout
from pooling.bench.workloads import WORKLOADS
from pooling.management.commands.poolbench import Command

PAGE = (Path(__file__).parents[3] / "docs/benchmarking.md").read_text()


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def first_cells(heading: str) -> list[str]:
    cells = re.findall(r"^\| (`.+?) \|", section(heading), re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_every_option_is_in_the_table_and_no_other() -> None:
    django = {"--help", "--version", "--verbosity", "--settings", "--pythonpath", "--traceback"}
    django |= {"--no-color", "--force-color", "--skip-checks"}
    parser = Command().create_parser("manage.py", "poolbench")
    options = {each for action in parser._actions for each in action.option_strings}

    assert set(first_cells("Knobs")) == {each for each in options if len(each) > 2} - django


def test_every_workload_is_in_the_table() -> None:
    assert first_cells("What it runs") == list(WORKLOADS)


def test_every_column_is_explained() -> None:
    explained = first_cells("How to read it")

    assert [each.removesuffix(" ms").removesuffix(" s") for each in layout.COLUMNS] == explained
