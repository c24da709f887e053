"""A run as one HTML file that needs nothing else: no script, no font, no server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from django.template import Context, Engine

from pooling.formatting import NOTHING, count

from . import layout
from .charts import charts

if TYPE_CHECKING:
    from pooling.bench.results import Document, Result

    from .charts import Chart

MORE = ("at once", "waiting")
"""Further columns: connections open at the same time, the share of time until there was one."""

# An engine of its own: the project's settings of templates are about other pages.
ENGINE = Engine(dirs=[str(Path(__file__).parent / "templates")])


def render(document: Document) -> str:
    """Return a document as a page."""
    whats = {each["name"]: each["what"] for each in document["workloads"]}
    tables = [
        {
            "title": table.title,
            "what": whats[table.workload],
            "charts": charts(document, table),
            "facts": layout.knees(document, table),
            "sections": [
                (label, [[*row, *_more(each)] for row, each in zip(rows, results, strict=True)])
                for label, results, rows in table.sections
            ],
        }
        for table in layout.tables(document)
    ]
    return _render(
        "bench/report.html",
        summary=layout.summary(document),
        columns=("contender", *layout.COLUMNS, *MORE),
        tables=tables,
        notes=layout.notes(document),
        legend=layout.legend(document),
        contenders=layout.contenders(document),
        facts=layout.facts(document),
    )


def _more(each: Result) -> list[str]:
    share = NOTHING if each["wait_share"] is None else f"{each['wait_share']:.1%}"
    return [count(each["peak_connections"]), share]


def render_chart(chart: Chart) -> str:
    """Return a chart as an SVG file that follows the reader's light or dark."""
    return _render("bench/chart.svg", chart=chart, alone=True)


def _render(template: str, **values: object) -> str:
    # Coordinates and numbers are not to be localised.
    return ENGINE.get_template(template).render(Context(values, use_l10n=False))
