"""The prose and the code say the same."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

import pooling
from pooling.admin.context import OPTION_HELP
from pooling.core.config import OPTIONS

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS]


def table_of(page: Path, heading: str) -> dict[str, str]:
    """Return the first two columns of the table under a heading."""
    text = page.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|", text, re.MULTILINE)
    return {first: second for first, second in rows if first.startswith("`")}


def test_the_readme_lists_every_option_with_its_default() -> None:
    expected = {}
    for field in dataclasses.fields(pooling.PoolConfig):
        default = str(field.default) if field.name != "reset" else '"rollback"'
        expected[f"`{field.name}`"] = "the alias" if field.name == "name" else f"`{default}`"

    assert table_of(ROOT / "README.md", "Options") == expected


def test_the_options_page_explains_every_option_in_the_same_order() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs/options.md").read_text(), re.MULTILINE)

    assert tuple(option for heading in headings for option in heading.split(", ")) == OPTIONS


def test_the_admin_page_explains_every_option() -> None:
    assert tuple(OPTION_HELP) == OPTIONS


def test_the_statistics_page_names_every_statistic() -> None:
    rows = table_of(ROOT / "docs/observing.md", "Statistics")
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

    assert named == {field.name for field in dataclasses.fields(pooling.PoolStats)}


def test_the_life_cycle_page_names_every_reason_for_closing() -> None:
    page = (ROOT / "docs/life-cycle.md").read_text()
    closed = re.search(r"closed, from anywhere: (.+)", page)

    assert closed is not None
    assert set(closed.group(1).split(", ")) == {str(reason) for reason in pooling.DiscardReason}


def test_every_module_of_the_map_exists_and_none_of_the_core_is_missing() -> None:
    rooms = (ROOT / "docs/internals.md").read_text().split("```")[1]
    core = {path.name for path in (ROOT / "pooling/core").glob("*.py")} - {"__init__.py"}

    assert set(re.findall(r"\b\w+\.py\b", rooms.split("  conf.py")[0])) == core
    for name in re.findall(r"^  (\w+\.py|\w+)/? ", rooms, re.MULTILINE):
        assert (ROOT / "pooling" / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_leads_nowhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(#[\w-]+)?\)", page.read_text()):
        path, fragment = target
        if "://" in path:
            continue
        linked = page.parent / path
        assert linked.exists(), f"{page.name} links to {path}"
        if fragment:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert fragment[1:] in anchors, f"{page.name} links to {path}{fragment}"


SCENARIOS = re.findall(
    r"^\| (\d+) \| .+ \| (.+) \|$", (ROOT / "docs/reliability.md").read_text(), re.MULTILINE
)


def test_the_reliability_page_has_every_scenario_once() -> None:
    assert [int(number) for number, _ in SCENARIOS] == list(range(1, 54))


@pytest.mark.parametrize(("number", "proofs"), SCENARIOS, ids=[number for number, _ in SCENARIOS])
def test_the_tests_that_prove_a_scenario_exist_and_say_so(number: str, proofs: str) -> None:
    names = re.findall(r"`([\w/.]+\.py)(?:::(\w+))?`", proofs)
    assert names
    for path, name in names:
        module = ast.parse((ROOT / "tests" / path).read_text())
        functions = {each.name: each for each in module.body if isinstance(each, ast.FunctionDef)}
        docstring = ast.get_docstring(functions[name] if name else module) or ""
        said = " ".join(re.findall(r"[Ss]cenarios? ((?:\d+[, and]*)+)", docstring))
        assert number in re.findall(r"\d+", said), f"{path}::{name}"


def test_the_figures_on_the_performance_page_are_there() -> None:
    page = (ROOT / "docs/performance.md").read_text()
    for block in ("micro", "http"):
        figures = page.split(f"<!-- {block}:begin -->")[1].split(f"<!-- {block}:end -->")[0]
        assert figures.count("|") > 50, f"run the suite and fill the block {block!r}"
