"""The micro suite's rows: for a terminal, as CSV, as Markdown and as a page."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import style, words
from .charts.svg import quote
from .csv import cell
from .document import mappings, number, text
from .markdown import escape, pipes, plain
from .markup import bullets, facts, grid, paragraph

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TextIO

TITLE = "What the pool itself costs"
HEADER = ("what", "whose", "against", "ours", "theirs", "ratio", "CPU", "target", "")
COLUMNS = (
    "benchmark",
    "title",
    "what",
    "subject",
    "against",
    "unit",
    "ours",
    "theirs",
    "value",
    "low",
    "high",
    "processor",
    "target",
    "at_least",
    "met",
    "rounds",
    "note",
)
OURS = "pooling"
TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
MET, MISSED = "met", "missed"
EXPLANATION = (
    "Ratios are figures divided by each other in the same round, of which the median is shown with "
    "a 95 % interval: below 1, ours is the smaller one. CPU is the same ratio of processor time, "
    "which the rest of a busy machine hardly changes; it leaves out waiting, for a server above "
    "all. Everybody has a process of their own and has turns with the others, in an order that is "
    "drawn for each round."
)


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it is shown."""

    title: str
    what: str
    subject: str
    against: str
    ours: str
    theirs: str
    ratio: str
    processor: str
    target: str
    verdict: str

    @property
    def whole(self) -> str:
        """What is measured, in full."""
        return ": ".join(filter(None, (self.title, self.what)))

    @property
    def cells(self) -> list[str]:
        """The cells of `HEADER`."""
        return [
            *(self.whole, self.subject, self.against, self.ours),
            *(self.theirs, self.ratio, self.processor, self.target, self.verdict),
        ]


def rows(document: Mapping[str, object]) -> list[Row]:
    """Return the rows of a document, whatever state it is in."""
    return [_row(each) for each in mappings(document.get("rows"))]


def _row(raw: Mapping[str, object]) -> Row:
    unit, against = text(raw.get("unit")), text(raw.get("against"))
    value, target = number(raw.get("value")), number(raw.get("target"))
    met, processor = raw.get("met"), number(raw.get("processor"))
    # A figure by itself has its interval, too, but it is no ratio.
    is_ratio = bool(against)
    ours = None if unit == "share" else number(raw.get("ours"))
    sign = "≥" if raw.get("at_least") is True else "≤"
    shown = ""
    if target is not None:
        shown = f"{sign} {f'{target:g}' if is_ratio else amount(target, unit)}"
    return Row(
        title=text(raw.get("title")),
        what=text(raw.get("what")),
        subject=text(raw.get("subject")),
        against=against,
        ours=text(raw.get("note")) or amount(ours, unit),
        theirs=amount(number(raw.get("theirs")), unit) if is_ratio else "",
        ratio=_ratio(value, number(raw.get("low")), number(raw.get("high"))) if is_ratio else "",
        processor="" if processor is None else f"{processor:.2f}",
        target=shown,
        verdict=MET if met is True else MISSED if met is False else "",
    )


def amount(value: float | None, unit: str) -> str:
    """Return a figure with its unit."""
    if value is None:
        return ""
    if unit == "time":
        size, name = next((each for each in TIMES if value >= each[0]), TIMES[-1])
        return f"{words.short(value / size)} {name}"
    if unit == "bytes":
        return f"{value:,.0f} bytes"
    return f"{words.short(value)}/s" if unit == "rate" else f"{value:.4g}"


def _ratio(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return words.UNKNOWN
    if low is None or high is None or low == high:
        return f"{value:.2f}"
    return f"{value:.2f} ({low:.2f}-{high:.2f})"


def verdict(document: Mapping[str, object]) -> str:
    """Say in a line how many targets were met."""
    judged = [each for each in mappings(document.get("rows")) if number(each.get("target"))]
    counts = [sum(each.get("met") is which for each in judged) for which in (True, False, None)]
    met, missed, unknown = counts
    said = f"{words.plural(len(judged), 'target')}: {met} {MET}, {missed} {MISSED}"
    return said + (f", {unknown} not measured" if unknown else "")


def remarks(document: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return what belongs below the rows: kinds and texts."""
    raw = document.get("warnings")
    found = [("warning", text(each)) for each in (raw if isinstance(raw, list) else [])]
    for each in mappings(document.get("left_out")):
        where = f"{text(each.get('subject'))} in {text(each.get('benchmark'))}"
        found.append(("left out", f"{where}: {text(each.get('reason'))}"))
    return found


def render_text(document: Mapping[str, object], stream: TextIO) -> None:
    """Write the rows to a stream, with one title for each benchmark."""
    from .table import wrap

    together: dict[str, list[Row]] = {}
    for row in rows(document):
        together.setdefault(row.title, []).append(row)
    parts = [_section(title, found) for title, found in together.items()]
    parts += [wrap(f"{kind}: {said}", "    ") for kind, said in remarks(document)]
    duration = words.short(number(document.get("duration_seconds")))
    parts.append(wrap(f"{EXPLANATION} The run took {duration} s."))
    parts.append(f"{verdict(document)}.\n")
    written = "".join(parts)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(written.encode(encoding, "replace").decode(encoding))


def _section(title: str, found: Sequence[Row]) -> str:
    table = [_short_cells(row) for row in found]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [title]
    for first, *others in table:
        cells = [first.ljust(widths[0])]
        cells += [each.rjust(width) for each, width in zip(others, widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines) + "\n\n"


def _short_cells(row: Row) -> list[str]:
    """Return a row's cells below its title, where ours need not be named again and again."""
    named = [row.what, row.subject if not row.what or row.subject != OURS else ""]
    name = ", ".join(filter(None, named)) + (f" / {row.against}" if row.against else "")
    compared = f"{row.ours} / {row.theirs}" if row.theirs else row.ours
    processor = f"CPU {row.processor}" if row.processor else ""
    return [name, compared, row.ratio, processor, row.target, row.verdict]


def render_csv(document: Mapping[str, object]) -> str:
    """Return the rows as CSV; what is not known is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in mappings(document.get("rows")):
        writer.writerow([cell(each.get(column)) for column in COLUMNS])
    return out.getvalue()


def render_markdown(document: Mapping[str, object]) -> str:
    """Return a document as GitHub-flavoured Markdown."""
    table = pipes(HEADER, [row.cells for row in rows(document)], 3)
    parts = [f"# {TITLE}", table, f"{escape(verdict(document))}."]
    notes = [f"- **{kind}**: {escape(said)}" for kind, said in remarks(document)]
    if notes:
        parts.append("## Notes\n\n" + "\n".join(notes))
    parts.append(escape(EXPLANATION))
    for title, values in _facts(document):
        lines = [f"- {escape(name)}: {escape(value)}" for name, value in values]
        parts.append(f"## {title}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def render_html(document: Mapping[str, object]) -> str:
    """Return a document as a page that needs nothing else."""
    shown = [
        [(value, _class(row, value)) for value in row.cells[:-1]]
        + [(row.verdict, "better" if row.verdict == MET else "worse" if row.verdict else "")]
        for row in rows(document)
    ]
    body = [
        f"<header><h1>{quote(TITLE)}</h1>{paragraph(verdict(document) + '.', 'soft')}</header>",
        "<main>",
        grid("All rows", HEADER, shown, "words"),
        bullets(f"{kind}: {said}" for kind, said in remarks(document)),
        paragraph(EXPLANATION),
    ]
    for title, values in _facts(document):
        body.append(f"<h3>{quote(title)}</h3>{facts(values)}")
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>poolbench: {quote(TITLE.lower())}</title>"
        f"<style>{style.COLOURS}{style.PAGE}</style></head><body>{''.join(body)}</main>"
        "</body></html>\n"
    )


def _class(row: Row, value: str) -> str:
    return "alarm" if value and value == row.ratio and row.verdict == MISSED else ""


def _facts(document: Mapping[str, object]) -> list[tuple[str, list[tuple[str, str]]]]:
    found = []
    for title, name in (("Environment", "environment"), ("Settings", "settings")):
        values = document.get(name)
        if isinstance(values, dict) and values:
            pairs = [(text(key).replace("_", " "), plain(value)) for key, value in values.items()]
            found.append((title, pairs))
    return found
