"""The headings of the troubleshooting page are the messages of the package."""

from __future__ import annotations

import re

import pytest

from tests.docs.examples import REPOSITORY, blocks
from tests.docs.message_templates import Template, plain, templates

PAGE = REPOSITORY / "docs/troubleshooting.md"
HEADINGS = [plain(line) for line in re.findall(r"^### (.+)$", PAGE.read_text(), re.MULTILINE)]
TEMPLATES = templates()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.where)
def test_a_message_is_a_heading(template: Template) -> None:
    if not any(template.pattern.search(heading) for heading in HEADINGS):
        pytest.fail(
            f"{template.where}: add a heading to docs/troubleshooting.md, or reword one:\n"
            f"### `{plain(str(template))}`",
            pytrace=False,
        )


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_heading_is_a_message(heading: str) -> None:
    if not any(template.pattern.search(heading) for template in TEMPLATES):
        pytest.fail(
            f"no message of the package reads like this any more:\n{heading}", pytrace=False
        )


def test_no_heading_is_there_twice() -> None:
    assert sorted(set(HEADINGS)) == sorted(HEADINGS)


def test_enough_messages_are_found() -> None:
    """The collector still finds what the package raises, logs and reports."""
    modules = {template.where.split(":")[0].removeprefix("pooling/") for template in TEMPLATES}
    assert {"conf.py", "registry.py", "core/messages.py", "core/config.py"} <= modules
    assert {"checks/options.py", "checks/server.py", "metrics/access.py"} <= modules
    assert len(TEMPLATES) > 70


@pytest.mark.parametrize("name", ["options.md", "observing.md", "sizing.md"])
def test_messages_that_are_shown_on_other_pages_are_real(name: str) -> None:
    page = REPOSITORY / "docs" / name
    shown = [
        line
        for block in blocks(page)
        if block.language == "text"
        for line in block.code.splitlines()
        if re.match(r"(pool '|DATABASES\[|POOLING)", line)
    ]
    for line in shown:
        assert any(template.pattern.search(plain(line)) for template in TEMPLATES), line
