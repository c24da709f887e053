"""Tables on a terminal and in a pipe, Markdown and CSV."""

from __future__ import annotations

import builtins
import csv as reader
import io
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pooling.bench.reports import csv, markdown, table
from tests.bench.reports.samples import document, empty, hostile

if TYPE_CHECKING:
    from pooling.bench.results import Document

DOCUMENTS = {"everything": document(), "hostile": hostile(), "empty": empty()}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class AsciiPipe(io.StringIO):
    encoding = "ascii"


def plain(given: Document) -> str:
    stream = io.StringIO()
    table.render(given, stream)
    return stream.getvalue()


@pytest.mark.parametrize("given", DOCUMENTS.values(), ids=DOCUMENTS)
def test_every_document_can_be_shown_as_text(given: Document) -> None:
    terminal = Terminal()
    table.render(given, terminal)

    assert terminal.getvalue()
    assert markdown.render(given).startswith("# Benchmark\n")
    assert csv.render(given).startswith("database,contender,")
    assert max(map(len, plain(given).splitlines())) <= table.WIDTH


def test_a_pipe_gets_aligned_columns() -> None:
    lines = plain(document()).splitlines()
    found = next(place for place, line in enumerate(lines) if "Stock Django" in line)

    assert lines[found - 4].strip() == "SQLite · CRUD · 1 thread" or "ops/s" in lines[found - 3]
    assert {len(line) for line in lines[found - 2 : found + 2]} == {len(lines[found])}
    assert "baseline" in lines[found]
    assert re.search(r"\d+ \(\d+-\d+\)", lines[found + 1])


def test_notes_warnings_and_contenders_left_out_are_below_the_tables() -> None:
    text = plain(document())

    assert "\nwarning: PostgreSQL, connect, 8 threads: the noise is larger" in text
    assert "214 x PoolError: connection pool exhausted" in text
    assert "\nleft out: asyncpg: not installed: asyncpg\n" in text
    assert "\nleft out: native on SQLite: it stopped\n" in text


def test_errors_stand_out_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    table.render(document(), terminal)

    assert re.search(r"\x1b\[1;37;41m\s*214", terminal.getvalue())


@pytest.mark.parametrize("width", [70, 80, 100])
def test_a_narrow_terminal_loses_columns_and_no_digits(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    terminal = Terminal()
    table.render(document(), terminal)

    assert "…" not in terminal.getvalue()
    assert ("max ms" in terminal.getvalue()) == (width == 100)
    assert "errors" in terminal.getvalue()


def test_without_rich_the_tables_are_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    original = builtins.__import__

    def without_rich(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "rich":
            raise ImportError(name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_rich)
    assert plain(document()) == markdown.render(document())


def test_a_pipe_that_knows_only_ascii_gets_ascii() -> None:
    stream = AsciiPipe()
    table.render(document(), stream)

    assert stream.getvalue().isascii()


def test_every_row_of_a_markdown_table_has_as_many_cells() -> None:
    for given in (document(), hostile()):
        cells = 0
        for line in markdown.render(given).splitlines():
            found = len(re.findall(r"(?<!\\)\|", line))
            if found:
                assert cells in (0, found)
            cells = found


def test_markdown_holds_no_tag_and_no_control() -> None:
    text = markdown.render(hostile())

    assert "<script" not in text
    assert "\x1b" not in text


def test_csv_has_one_row_for_each_result_and_always_the_same_columns() -> None:
    given = document()
    rows = list(reader.DictReader(io.StringIO(csv.render(given))))

    assert len(rows) == len(given["results"])
    assert ",".join(rows[0]) == (
        "database,contender,workload,operation,threads,sweep,sweep_value,ops_per_second,p50_ms,"
        "p95_ms,p99_ms,max_ms,connections_opened,peak_connections,errors,operations,rounds,"
        "fairness,wait_share,baseline,ratio,ratio_low,ratio_high,level,note"
    )
    for row, each in zip(rows, given["results"], strict=True):
        assert row["contender"] == each["contender"]
        assert row["baseline"] == str(each["baseline"]).lower()
        for column in ("ops_per_second", "p99_ms", "ratio"):
            known = each[column]
            assert (
                row[column] == ""
                if known is None
                else float(row[column]) == pytest.approx(known, rel=1e-5)
            )
    assert {(row["sweep"], row["sweep_value"]) for row in rows} > {("", ""), ("pool-size", "4")}


def test_csv_hands_no_formula_to_a_spreadsheet() -> None:
    given = document()
    given["results"][0]["note"] = "=HYPERLINK(1)"
    [first, *_others] = reader.DictReader(io.StringIO(csv.render(given)))

    assert first["note"] == "'=HYPERLINK(1)"
