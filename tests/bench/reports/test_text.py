"""The verdict and the tables on a terminal, in a pipe and as Markdown."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest

from pooling.bench.reports import markdown, text
from tests.bench.reports.samples import document, empty, hostile

if TYPE_CHECKING:
    from pooling.bench.results import Document

DOCUMENTS = {"everything": document(), "hostile": hostile(), "empty": empty()}
SUBJECTS = ["Gain (crud, 1 thread)", "Other pools", "Connections", "Tail", "Not said"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class AsciiPipe(io.StringIO):
    encoding = "ascii"


def plain(given: Document, *, details: bool = False) -> str:
    stream = io.StringIO()
    text.render(given, stream, details=details)
    return stream.getvalue()


@pytest.mark.parametrize("given", DOCUMENTS.values(), ids=DOCUMENTS)
def test_every_document_can_be_shown_as_text(
    given: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert plain(given)
    assert max(map(len, plain(given).splitlines())) <= 80
    assert markdown.render(given).startswith("# Benchmark\n")


@pytest.mark.parametrize("details", [True, False])
def test_the_five_lines_are_the_last_on_the_screen(
    details: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    lines = plain(document(), details=details).splitlines()

    assert [line.partition(":")[0] for line in lines[-5:]] == SUBJECTS
    assert lines[-5:] == document()["verdict"]
    assert any("Stock Django" in line and line.startswith("| ") for line in lines) == details


def test_a_terminal_shows_the_subjects_in_bold() -> None:
    terminal = Terminal()
    text.render(document(), terminal)

    assert "\x1b[1mGain (crud, 1 thread): \x1b[0m" in terminal.getvalue()
    assert "\x1b" not in plain(document())


def test_without_details_warnings_and_what_was_left_out_are_said() -> None:
    shown = plain(document())

    assert "warning: the machine was busy before the run" in shown
    assert "left out: native on SQLite: it stopped" in shown
    assert "214 x PoolError" not in shown
    assert "214 x PoolError: connection pool exhausted" in plain(document(), details=True)


def test_a_pipe_that_knows_only_ascii_gets_ascii() -> None:
    stream = AsciiPipe()
    text.render(document(), stream, details=True)

    assert stream.getvalue().isascii()


def test_the_columns_of_a_table_are_aligned() -> None:
    for block in plain(document(), details=True).split("\n\n"):
        if block.startswith("|"):
            assert len({len(line) for line in block.splitlines()}) == 1, block


def test_every_row_of_a_markdown_table_has_as_many_cells() -> None:
    for given in (document(), hostile()):
        cells = 0
        for line in markdown.render(given).splitlines():
            found = len(re.findall(r"(?<!\\)\|", line))
            if found:
                assert cells in (0, found)
            cells = found


def test_markdown_begins_with_the_verdict_and_holds_no_tag_and_no_control() -> None:
    shown = markdown.render(hostile())

    assert shown.splitlines()[2].startswith("- Gain ")
    assert "<script" not in shown
    assert "\x1b" not in shown
