"""A run as one HTML file that needs nothing else: no script, no font, no server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import curves, figures, method, style, words
from .charts.svg import quote
from .document import LEVELS, by_level, read
from .markup import bullets, grid, paragraph, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .document import Group, Report, Result

# So many warnings are seen at once.
SHOWN = 4


def render(document: Mapping[str, object]) -> str:
    """Return a document as a page."""
    report = read(document)
    databases: dict[str, dict[str, list[Group]]] = {}
    for group in report.groups():
        databases.setdefault(group.database, {}).setdefault(group.workload, []).append(group)
    body = [_head(report, databases), "<main>", _warnings(report)]
    if databases:
        body.append(_glance(report, databases))
    else:
        body.append(paragraph("" if report.sweeps() else "Nothing was measured."))
    for database, workloads in databases.items():
        body.append(f'<section><h2 id="{slug(database)}">{quote(database)}</h2>')
        body += [_workload(report, groups) for groups in workloads.values()]
        body.append("</section>")
    body += [_sweeps(report), method.render(report), "</main>"]
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<title>poolbench: what pooling gives</title>"
        f"<style>{style.COLOURS}{style.PAGE}{style.CHART}</style></head><body>"
        f"{''.join(body)}</body></html>\n"
    )


def slug(*texts: str) -> str:
    """Return an id; texts that differ only in signs get the same, which is harmless for a link."""
    return "-".join(re.sub(r"[^a-z0-9]+", "-", each.lower()).strip("-") or "x" for each in texts)


def _head(report: Report, databases: Mapping[str, Mapping[str, Sequence[Group]]]) -> str:
    links = []
    for database, workloads in databases.items():
        inner = ", ".join(
            f'<a href="#{slug(database, name)}">{quote(report.workload_title(name))}</a>'
            for name in workloads
        )
        links.append(f'<li><a href="#{slug(database)}"><b>{quote(database)}</b></a>: {inner}</li>')
    if report.sweeps():
        links.append('<li><a href="#sweeps"><b>Sweeps</b></a></li>')
    links.append('<li><a href="#method"><b>Method and machine</b></a></li>')
    return (
        "<header><h1>What pooling gives</h1>"
        f"{paragraph(method.summary(report), 'soft')}"
        f'<nav aria-label="Contents"><ul>{"".join(links)}</ul></nav></header>'
    )


def _warnings(report: Report) -> str:
    if not report.warnings:
        return ""
    listed = bullets(report.warnings[:SHOWN])
    if rest := report.warnings[SHOWN:]:
        listed += f"<details><summary>{len(rest)} more</summary>{bullets(rest)}</details>"
    return f'<div class="warn" role="note"><b>Before you quote these numbers</b>{listed}</div>'


def _glance(report: Report, databases: Mapping[str, Mapping[str, Sequence[Group]]]) -> str:
    """The ratios of everything in a table for each database and level."""
    parts = [
        "<section><h2>At a glance</h2>",
        paragraph(
            "Times the baseline's operations per second, with the 95 % interval below. Blue is "
            "faster and orange slower than the baseline; cells without colour are the baseline, "
            "or cannot be told apart from it."
        ),
    ]
    for database, workloads in databases.items():
        groups = [group for each in workloads.values() for group in each]
        levels = by_level([each for group in groups for each in group.main])
        for level, results in levels:
            names = list(dict.fromkeys(each.contender for each in results))
            known = [each for each in groups if any(one.ops_per_second for one in each.main)]
            rows = [_glance_row(report, group, names) for group in known]
            rows = [row for row in rows if any(text != words.UNKNOWN for text, _ in row[1:])]
            if rows:
                caption = f"{database}, {LEVELS.get(level, level)}"
                header = ["", *map(report.title, names)]
                parts.append(grid(caption, header, rows) + "<br>")
    return "".join([*parts, "</section>"])


def _glance_row(report: Report, group: Group, names: Sequence[str]) -> list[tuple[str, str]]:
    known = {each.contender: each for each in group.main}
    label = f"{report.workload_title(group.workload)}, {words.threads(group.threads)}"
    return [(label, ""), *(_glance_cell(known.get(name)) for name in names)]


def _glance_cell(each: Result | None) -> tuple[str, str]:
    if each is None or (each.ratio is None and not each.ops_per_second):
        return ("failed", "alarm") if each and each.errors else (words.UNKNOWN, "")
    if each.baseline or each.ratio is None:
        return (f"{words.short(each.ops_per_second)}/s", "")
    said = f"{words.factor(each.ratio)} \u00d7"
    if not each.has_interval:
        return (said, "")
    low, high = words.interval(each.ratio_low, each.ratio_high)
    colour = "" if not each.is_clear else "better" if each.ratio > 1 else "worse"
    return (f"{said}\n{low} to {high}", colour)


def _workload(report: Report, groups: Sequence[Group]) -> str:
    first = groups[0]
    title, what = report.workloads.get(first.workload, (first.workload, ""))
    key = slug(first.database, first.workload)
    parts = [
        f'<h3 id="{key}">{quote(title)} <span class="soft">on {quote(first.database)}</span></h3>',
        paragraph(what, "soft"),
    ]
    parts += [_group(report, group, f"{key}-{group.threads}") for group in groups]
    most = max(groups, key=lambda group: group.threads or 0)
    more = [
        *curves.by_threads(report, groups, f"{key}-threads"),
        figures.operations(report, most, f"{key}-operations"),
        figures.fairness(report, most, f"{key}-fairness"),
        figures.waits(report, most, f"{key}-waits"),
    ]
    if any(more):
        parts.append(f"<h4>{quote(title)}: more views</h4>{_figures(more)}")
    return f"<section>{''.join(parts)}</section>"


def _group(report: Report, group: Group, key: str) -> str:
    drawn = [
        figures.throughput(report, group, f"{key}-ops"),
        figures.ratios(report, group, f"{key}-ratio"),
        figures.latency(report, group, f"{key}-latency"),
    ]
    said = "".join(_said(report, group, level) for level, _ in by_level(group.main))
    noted = [each for each in group.results if each.note]
    notes = [[report.title(each.contender), words.count(each.errors), each.note] for each in noted]
    told = table("What happened", ["contender", "errors", "note"], notes, "words") if notes else ""
    heading = quote(words.capital(words.threads(group.threads)))
    return f'<h4>{heading}</h4><div class="said">{said}</div>{_figures(drawn)}{told}'


def _said(report: Report, group: Group, level: str) -> str:
    levels = dict(by_level(group.main))
    results = levels[level]
    # Its baseline may be of another level.
    bases = [each for each in group.main if each.baseline and each not in results]
    label = words.capital(LEVELS.get(level, level)) if len(levels) > 1 else ""
    others = [each for each in words.findings(report, [*results, *bases]) if each]
    told = [
        *others,
        words.connections(report, results),
        *(words.errors(each, report.title(each.contender)) for each in results),
    ]
    if not any(told):
        return ""
    return f"<div>{paragraph(label, 'label')}{bullets(told, 'say')}</div>"


def _sweeps(report: Report) -> str:
    parts = []
    for (database, workload, threads, knob), results in report.sweeps().items():
        key = slug("sweep", database, workload, str(threads), knob)
        draw = {"iterations": curves.iterations, "pool-size": curves.pool_sizes}.get(knob)
        drawn = draw(report, results, key) if draw else []
        if drawn:
            where = f"{database}, {report.workload_title(workload)}, {words.threads(threads)}"
            what = knob.replace("-", " ").capitalize()
            parts.append(f"<h3>{quote(what)}: {quote(where)}</h3>{_figures(drawn)}")
    return f'<section><h2 id="sweeps">Sweeps</h2>{"".join(parts)}</section>' if parts else ""


def _figures(drawn: Iterable[str]) -> str:
    inside = "".join(drawn)
    return f'<div class="figures">{inside}</div>' if inside else ""
