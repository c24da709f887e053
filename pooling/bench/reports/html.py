"""A run as one HTML file that needs nothing else: no script, no font, no server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from django.template import Context, Engine
from django.utils.html import json_script

from . import layout
from .charts import chart

if TYPE_CHECKING:
    from pooling.bench.results import Document

    from .charts import Chart

# An engine of its own: the project's settings of templates are about other pages.
ENGINE = Engine(dirs=[str(Path(__file__).parent / "templates")])


def render(document: Document) -> str:
    """Return a document as a page: the verdict, one chart, and folded below them the rest."""
    whats = {each["name"]: each["what"] for each in document["workloads"]}
    found = layout.tables(document)
    drawn = [chart(document, table) for table in found]
    tables = [
        {
            "title": table.title,
            "what": whats[table.workload],
            "chart": each,
            "facts": layout.knees(document, table),
            "sections": [(label, rows) for label, _results, rows in table.sections],
        }
        for table, each in zip(found, drawn, strict=True)
    ]
    return _render(
        "bench/report.html",
        summary=layout.summary(document),
        verdict=[line.partition(": ") for line in document["verdict"]],
        first=next((each for each in tables if each["chart"]), None),
        columns=("contender", *layout.COLUMNS),
        tables=tables,
        notes=layout.notes(document),
        legend=layout.legend(document),
        fairness=layout.fairness(document),
        fairness_columns=layout.FAIRNESS,
        inequalities=layout.inequalities(document),
        facts=layout.facts(document),
        data=json_script(document, "poolbench"),
    )


def render_chart(chart: Chart) -> str:
    """Return a chart as an SVG file that follows the reader's light or dark."""
    return _render("bench/chart.svg", chart=chart, alone=True)


def _render(template: str, **values: object) -> str:
    # Coordinates and numbers are not to be localised.
    return ENGINE.get_template(template).render(Context(values, use_l10n=False))
