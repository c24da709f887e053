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
    titles = layout.titles(document)
    tables = [
        {
            "title": table.title,
            "what": next(
                each["what"] for each in document["workloads"] if each["name"] == table.workload
            ),
            "charts": charts(document, table),
            "facts": layout.knees(document, table),
            "sections": [
                (
                    section.label,
                    [(titles[each["contender"]], _cells(each)) for each in section.results],
                )
                for section in table.sections
            ],
        }
        for table in layout.tables(document)
    ]
    contenders = [
        {**each, "level": layout.LEVELS[each["level"]]} for each in document["contenders"]
    ]
    return _render(
        "bench/report.html",
        summary=layout.summary(document),
        columns=layout.COLUMNS + MORE,
        tables=tables,
        notes=layout.notes(document),
        legend=layout.legend(document),
        contenders=contenders,
        facts=layout.facts(document),
    )


def _cells(each: Result) -> list[str]:
    share = NOTHING if each["wait_share"] is None else f"{each['wait_share']:.1%}"
    return [*layout.cells(each), count(each["peak_connections"]), share]


def render_chart(chart: Chart) -> str:
    """Return a chart as an SVG file that follows the reader's light or dark."""
    return _render("bench/chart.svg", chart=chart, alone=True)


def _render(template: str, **values: object) -> str:
    # Coordinates and numbers are not to be localised.
    return ENGINE.get_template(template).render(Context(values, use_l10n=False))
