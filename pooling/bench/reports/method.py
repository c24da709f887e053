"""How and on what it was measured, for the end of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import words
from .document import LEVELS
from .markdown import plain
from .markup import bullets, facts, paragraph, table

if TYPE_CHECKING:
    from .document import Report

METHOD = """
Rounds are interleaved: in each, every contender has its turn, and another one begins each time, so
that whatever slows the machine down slows all of them.

Each contender has a database of its own, made for the run and removed after it. Each does a round
of warm-up that does not count.

An operation is a request of its own: get a connection, do the work, give it back. All three belong
to its time.

A ratio is the median over the rounds of: operations per second, divided by the baseline's in the
same round. Its 95 % interval is a bootstrap over the rounds; with few rounds it is rough.

Operations that fail are counted, and shown, and are no part of the throughput.

Connections are counted by the database and not by the contender.
"""
LIMITS = """
One machine, one moment. Compare ratios rather than values, and do not carry them over to other
hardware or to a server at the end of a network.

What goes through the ORM does more than what does not: compare within a level.

The load waits for its own answers: with a slow contender less work arrives, so the real queues of a
busy site are longer than the slow ends shown here.

Database, contenders and load share the processor, unless the database is elsewhere.

An interval tells of the noise within this run, and of nothing that all rounds had in common.
"""


def summary(report: Report) -> str:
    """Return one line on when, where and how long."""
    environment = report.environment
    cores = words.plural(report.cores, "core") if report.cores else ""
    python = environment.get("python")
    taken = str(environment.get("taken_at") or "").partition("T")[0]
    duration = f"measured in {words.short(report.duration)} s" if report.duration else ""
    parts = ["manage.py poolbench", taken, cores, str(python or ""), duration]
    return " · ".join(part for part in parts if part)


def render(report: Report) -> str:
    """Return contenders, method, limits, environment and settings."""
    parts = ['<footer><h2 id="method">Method and machine</h2>']
    if report.contenders:
        rows = [
            [each.title, each.version, LEVELS.get(each.level, each.level), each.how]
            for each in report.contenders.values()
        ]
        header = ["name", "version", "level", "how it is used"]
        parts.append("<h3>Who took part</h3>" + table("Contenders", header, rows, "words"))
    if report.left_out:
        left_out = table("Left out", ["contender", "reason"], report.left_out, "words")
        parts.append("<h3>Who was left out, and why</h3>" + left_out)
    parts.append("<h3>How it was measured</h3>" + bullets(METHOD.split("\n\n")))
    parts.append("<h3>What this cannot say</h3>" + bullets(LIMITS.split("\n\n")))
    for title, values in (("Environment", report.environment), ("Settings", report.settings)):
        if values:
            pairs = [(str(name).replace("_", " "), plain(each)) for name, each in values.items()]
            parts.append(f"<h3>{title}</h3>{facts(pairs)}")
    if not report.results:
        parts.append(paragraph("This document has no results."))
    return "".join([*parts, "</footer>"])
