"""The documentation agrees with the code: options, statistics, modules, links, guarantees."""

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
PAGES = [*(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")), *DOCS]


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


def test_the_map_of_modules_is_complete() -> None:
    listing = (ROOT / "docs/internals.md").read_text().split("```")[1]
    core = {path.name for path in (ROOT / "pooling/core").glob("*.py")} - {"__init__.py"}
    package = {
        path.name
        for path in (ROOT / "pooling").iterdir()
        if path.name not in {"__init__.py", "py.typed", "models.py"}
        and (path.suffix == ".py" or (path / "__init__.py").exists())
        and path.name != "migrations"
    }

    assert set(re.findall(r"^    (\w+\.py) ", listing, re.MULTILINE)) == core
    assert set(re.findall(r"^  (\w+(?:\.py)?)/? ", listing, re.MULTILINE)) == package


def test_the_readme_begins_with_the_two_commands_and_lists_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    first, second = re.findall(r"^make (\w+)", readme.split("## ")[0], re.MULTILINE)
    assert (first, second) == ("bench", "test")

    table = readme.split("\n## Which page answers what\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| (\w+) \| \|$", table, re.MULTILINE) == ["Use", "Operate", "Understand"]
    listed = re.findall(r"\(docs/([\w-]+\.md)\)", table)
    assert sorted(listed) == sorted(page.name for page in DOCS if page.name != "package.md")


def test_every_target_of_make_exists() -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in PAGES:
        blocks = re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL)
        for target in re.findall(r"^[A-Z_\d= a-z]*\bmake ([a-z-]+)", "".join(blocks), re.MULTILINE):
            assert target in targets, f"{page.name}: make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_is_broken(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for path, fragment in re.findall(r"\]\(([^)#]*)(#[\w-]+)?\)", text):
        if "://" in path:
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), f"{page.name} links to {path}"
        if fragment:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert fragment[1:] in anchors, f"{page.name} links to {path}{fragment}"


SCENARIOS = re.findall(
    r"^\| (\d+) \| .+ \| (.+) \|$", (ROOT / "docs/reliability.md").read_text(), re.MULTILINE
)


def test_the_reliability_page_has_every_scenario_once() -> None:
    assert [int(number) for number, _ in SCENARIOS] == list(range(1, len(SCENARIOS) + 1))


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
