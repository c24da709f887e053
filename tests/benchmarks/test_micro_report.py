"""The micro suite's rows, as text and as Markdown."""

from __future__ import annotations

import io
from typing import Any

import pytest

from pooling.bench.results import SCHEMA
from pooling.formatting import NOTHING
from tests.bench.reports.samples import ENVIRONMENT
from tests.benchmarks.micro import report as micro

HOSTILE = "<script>|`*\n\x1b[31m"


def row(**changes: Any) -> dict[str, Any]:
    return {
        "benchmark": "core-1",
        "title": "core: acquire + release",
        "what": "",
        "subject": "pooling",
        "against": "psycopg_pool",
        "unit": "time",
        "ours": 1.1e-6,
        "theirs": 1.9e-6,
        "value": 0.58,
        "low": 0.57,
        "high": 0.6,
        "processor": 0.55,
        "target": 0.6,
        "at_least": False,
        "met": True,
        "rounds": 15,
        "note": None,
        **changes,
    }


def document(*rows: dict[str, Any], **changes: Any) -> Any:
    return {
        "schema": SCHEMA,
        "suite": "micro",
        "environment": {**ENVIRONMENT, "cpu": "A processor"},
        "settings": {"rounds": 15, "turn_seconds": 0.05, "seed": 1},
        "rows": list(rows or [row()]),
        "measured": {},
        "left_out": [],
        "warnings": [],
        "duration_seconds": 60.0,
        **changes,
    }


MEMORY = row(
    benchmark="memory",
    title="memory",
    what="per waiter",
    against="",
    unit="bytes",
    ours=597.0,
    theirs=None,
    value=597.0,
    processor=None,
    target=2048,
)
SHARE = row(
    title="contention",
    what="throughput",
    against="the ceiling",
    unit="share",
    ours=0.89,
    theirs=None,
    value=0.89,
    low=0.88,
    high=0.9,
    processor=None,
    target=0.9,
    at_least=True,
    met=False,
)
MISSING = row(
    **dict.fromkeys(("ours", "theirs", "value", "low", "high", "processor", "met")), note="b: gone"
)
UNDECIDED = row(what="undecided", low=0.55, high=0.65, met=None)
SHOWN = row(
    target=None, met=None, subject="psycopg_pool", against="", what="threads", unit="number"
)


def text(found: Any) -> str:
    out = io.StringIO()
    micro.render_text(found, out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1.234e-6, "time", "1.23 µs"),
        (2.5e-8, "time", "0.025 µs"),
        (0.0151, "time", "15.1 ms"),
        (2.0, "time", "2.00 s"),
        (1234.5, "bytes", "1,234 bytes"),
        (3564.0, "rate", "3,564/s"),
        (4.0, "number", "4"),
        (0.99924, "number", "0.9992"),
        (None, "time", ""),
    ],
)
def test_figures_have_units(value: float | None, unit: str, shown: str) -> None:
    assert micro.amount(value, unit) == shown


def test_a_terminal_gets_a_section_for_each_contest() -> None:
    lines = [
        " ".join(line.split())
        for line in text(document(row(), SHOWN, MEMORY, SHARE, MISSING, UNDECIDED)).splitlines()
    ]

    assert lines[:2] == [
        "core: acquire + release",
        "pooling / psycopg_pool 1.10 µs / 1.90 µs 0.58 (0.57-0.60) CPU 0.55 ≤ 0.6 met",
    ]
    assert lines[2].startswith("threads, psycopg_pool")
    assert lines[3] == f"pooling / psycopg_pool b: gone {NOTHING} ≤ 0.6"
    assert "per waiter 597 bytes ≤ 2,048 bytes met" in lines
    assert "throughput / the ceiling 0.89 (0.88-0.90) ≥ 0.9 missed" in lines
    assert any(line.endswith("0.58 (0.55-0.65) CPU 0.55 ≤ 0.6 undecided") for line in lines)
    assert lines[-1] == "5 targets: 2 met, 1 missed, 1 undecided, 1 not measured."


def test_what_was_left_out_and_what_is_doubtful_is_said() -> None:
    left_out = [
        {"benchmark": "core-1", "subject": "SQLAlchemy", "reason": "not installed: SQLAlchemy"}
    ]
    found = document(left_out=left_out, warnings=["the machine was busy"])

    for shown in (text(found), micro.render_markdown(found)):
        assert "SQLAlchemy in core-1: not installed: SQLAlchemy" in shown.replace("\n    ", " ")
        assert "the machine was busy" in shown


def test_an_encoding_without_the_signs_is_no_error() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")

    micro.render_text(document(), stream)
    stream.flush()

    assert b"? 0.6" in raw.getvalue()


def test_every_row_of_the_markdown_has_as_many_columns_as_its_header() -> None:
    found = micro.render_markdown(document(row(), MEMORY, SHARE, MISSING, SHOWN))
    header, _rule, *rows = [line for line in found.splitlines() if line.startswith("|")]

    assert len(rows) == 5
    assert {line.count(" |") for line in rows} == {header.count(" |")}
    assert "4 targets: 2 met, 1 missed, 1 not measured." in found


def test_hostile_texts_stay_texts() -> None:
    found = document(row(subject=HOSTILE, against=HOSTILE, what=HOSTILE, note=HOSTILE))

    assert "<script>" not in micro.render_markdown(found)
    assert "\x1b" not in micro.render_markdown(found)
