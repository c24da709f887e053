"""The micro suite's rows, for a terminal and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pooling.bench.reports import layout
from pooling.bench.reports.markdown import escape, facts, pipes
from pooling.bench.reports.text import write
from pooling.formatting import NOTHING, number, plural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from pooling.bench.results import Document

    from .results import MicroDocument, MicroRow

TITLE = "What the pool itself costs"
HEADER = ("what", "whose", "against", "ours", "theirs", "ratio", "CPU", "target", "")
OURS = "pooling"
TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
MET, MISSED, UNDECIDED = "met", "missed", "undecided"
EXPLANATION = (
    "Ratios are figures divided by each other in the same round, of which the median is shown with "
    "a 95 % interval: below 1, ours is the smaller one. A target is undecided if the interval "
    "includes it. CPU is the same ratio of processor time, "
    "which the rest of a busy machine hardly changes; it leaves out waiting, for a server above "
    "all. Each subject has its own process and has turns with the others, in an order that is "
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


def rows(document: MicroDocument | Document) -> list[Row]:
    """Return the rows of a document."""
    return [_row(each) for each in document["rows"]]


def _row(raw: MicroRow) -> Row:
    unit, target = raw["unit"], raw["target"]
    # A figure by itself has its interval, too, but it is no ratio.
    is_ratio = bool(raw["against"])
    shown = ""
    if target is not None:
        sign = "≥" if raw["at_least"] else "≤"
        shown = f"{sign} {f'{target:g}' if is_ratio else amount(target, unit)}"
    return Row(
        title=raw["title"],
        what=raw["what"],
        subject=raw["subject"],
        against=raw["against"],
        ours=raw["note"] or amount(None if unit == "share" else raw["ours"], unit),
        theirs=amount(raw["theirs"], unit) if is_ratio else "",
        ratio=_ratio(raw["value"], raw["low"], raw["high"]) if is_ratio else "",
        processor="" if raw["processor"] is None else f"{raw['processor']:.2f}",
        target=shown,
        verdict=_verdict(raw),
    )


def _verdict(raw: MicroRow) -> str:
    if raw["target"] is None or raw["value"] is None:
        return ""
    return UNDECIDED if raw["met"] is None else MET if raw["met"] else MISSED


def amount(value: float | None, unit: str) -> str:
    """Return a figure with its unit."""
    if value is None:
        return ""
    if unit == "time":
        size, name = next((each for each in TIMES if value >= each[0]), TIMES[-1])
        return f"{number(value / size)} {name}"
    if unit == "bytes":
        return f"{value:,.0f} bytes"
    return f"{number(value)}/s" if unit == "rate" else f"{value:.4g}"


def _ratio(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return NOTHING
    if low is None or high is None or low == high:
        return f"{value:.2f}"
    return f"{value:.2f} ({low:.2f}-{high:.2f})"


def verdict(document: MicroDocument | Document) -> str:
    """Say in a line how many targets were met."""
    judged = [row.verdict for row in rows(document) if row.target]
    counts = [(judged.count(each), each) for each in (MET, MISSED, UNDECIDED)]
    counts.append((judged.count(""), "not measured"))
    shown = [f"{times} {what}" for times, what in counts if times or what in (MET, MISSED)]
    return f"{plural(len(judged), 'target')}: {', '.join(shown)}"


def notes(document: MicroDocument) -> list[tuple[str, str]]:
    """Return what belongs below the rows: kinds and texts."""
    left_out = [
        f"{each['subject']} in {each['benchmark']}: {each['reason']}"
        for each in document["left_out"]
    ]
    kinds = {"warning": document["warnings"], "left out": left_out}
    return [(kind, text) for kind, texts in kinds.items() for text in texts]


def render_text(document: MicroDocument, stream: TextIO) -> None:
    """Write the rows to a stream, with what belongs to them."""
    parts = sections(document)
    parts += [f"{kind}: {text}\n" for kind, text in notes(document)]
    parts.append(f"{EXPLANATION} The run took {number(document['duration_seconds'])} s.\n")
    write(stream, "".join([*parts, f"{verdict(document)}.\n"]))


def sections(document: MicroDocument | Document) -> list[str]:
    """Return the rows as text, with one title for each benchmark."""
    together: dict[str, list[Row]] = {}
    for row in rows(document):
        together.setdefault(row.title, []).append(row)
    return [_section(title, found) for title, found in together.items()]


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


def render_markdown(document: MicroDocument) -> str:
    """Return a document as GitHub-flavoured Markdown."""
    table = pipes(HEADER, [row.cells for row in rows(document)], 3)
    parts = [f"# {TITLE}", table, f"{escape(verdict(document))}."]
    if said := [f"- **{kind}**: {escape(text)}" for kind, text in notes(document)]:
        parts.append("## Notes\n\n" + "\n".join(said))
    return "\n\n".join([*parts, escape(EXPLANATION), *facts(layout.facts(document))]) + "\n"
