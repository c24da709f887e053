"""Every code block of the documentation runs, or says why it is not run.

The blocks of a page are followed from top to bottom in a scratch project: settings are appended to
its settings and checked, shell commands run in its folder, Python runs with Django set up.
`tests/docs/test_quickstart.py` follows the quick start.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from pooling.management.commands.poolbench import Command as Poolbench
from pooling.management.commands.poolsize import Command as Poolsize
from pooling.management.commands.poolstats import Command as Poolstats
from tests.docs.examples import PAGES, RUNNABLE, SHOWN, Block, ScratchProject, blocks

if TYPE_CHECKING:
    from pathlib import Path

CONNECT = """
from django.core.management import call_command
from django.db import connections

call_command("check")
for connection in connections.all():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    connection.close()
"""

COMMANDS = {"poolbench": Poolbench, "poolstats": Poolstats, "poolsize": Poolsize}

ALL = [block for page in PAGES for block in blocks(page)]
FOLLOWED = [
    page
    for page in PAGES
    if page.name != "quickstart.md"
    and any(block.language in RUNNABLE and not block.reason for block in blocks(page))
]


@pytest.mark.parametrize("block", ALL, ids=str)
def test_a_block_has_a_language_and_is_run_or_says_why_not(block: Block) -> None:
    assert block.language in (*RUNNABLE, *SHOWN)
    if block.comment:
        assert block.comment.startswith("not run: ")
        assert len(block.reason) > 10
        assert block.language in RUNNABLE, "blocks in other languages are never run"


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.name)
def test_the_examples_of_a_page_run(
    page: Path, scratch_project: ScratchProject, server_settings: dict[str, Any]
) -> None:
    at_server = f"""
INSTALLED_APPS = list(dict.fromkeys(INSTALLED_APPS))
for entry in DATABASES.values():
    if "postgresql" in entry["ENGINE"]:
        entry.update({ {key: server_settings[key] for key in server_settings if key != "OPTIONS"} })
        entry["OPTIONS"] = {{**{server_settings["OPTIONS"]}, **entry.get("OPTIONS", {{}})}}
"""
    for block in blocks(page):
        if block.language not in RUNNABLE or block.reason:
            continue
        try:
            if block.language == "sh":
                scratch_project.shell(block.code)
            elif block.file == "gunicorn.conf.py":
                scratch_project.plain_python(block.code)
            elif block.file in ("", "settings.py") and block.is_settings:
                scratch_project.append("settings.py", block.code + at_server)
                scratch_project.python(CONNECT)
            elif block.file:
                scratch_project.append(block.file, block.code)
                scratch_project.python(CONNECT)
            else:
                scratch_project.python(block.code)
        except AssertionError as error:
            pytest.fail(f"{block}: {error}", pytrace=False)


def command_lines() -> list[tuple[str, str]]:
    """Return the calls of the project's own commands, also those by `make bench`."""
    found = []
    for block in ALL:
        for line in block.code.splitlines() if block.language == "sh" else ():
            words = shlex.split(line, comments=True)
            if words[:2] == ["make", "bench"]:
                given = [word.removeprefix("ARGS=") for word in words if word.startswith("ARGS=")]
                found.append((str(block), " ".join(["poolbench", *given])))
            elif "manage.py" in words and words[words.index("manage.py") + 1] in COMMANDS:
                found.append((str(block), shlex.join(words[words.index("manage.py") + 1 :])))
    return found


@pytest.mark.parametrize(("where", "line"), command_lines())
def test_the_options_of_a_command_exist(where: str, line: str) -> None:
    name, *arguments = shlex.split(line)
    COMMANDS[name]().create_parser("manage.py", name).parse_args(arguments)
