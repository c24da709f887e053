"""The alert rules for Prometheus name metrics and labels that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pooling
from pooling.metrics.exposition import render
from pooling.metrics.families import families
from tests.metrics.samples import pool, process

RULES = (Path(pooling.__file__).parent / "metrics" / "alerts.yml").read_text()


def test_every_expression_is_about_exposed_series() -> None:
    exposed = {
        line.partition("{")[0]: set(re.findall(r'(\w+)="', line))
        for line in render(families([process(pool())]), openmetrics=False).splitlines()
        if not line.startswith("#")
    }
    expressions = re.findall(r"expr: (.+)", RULES)
    assert len(expressions) == RULES.count("- alert: ") > 3
    for expression in expressions:
        [name] = re.findall(r"pooling_\w+", expression)
        [labels] = re.findall(r"by \(([^)]+)\)", expression)
        assert set(labels.split(", ")) <= exposed[name], expression


def test_texts_use_the_labels_of_their_expression() -> None:
    for rule in RULES.split("- alert: ")[1:]:
        [labels] = re.findall(r"by \(([^)]+)\)", rule)
        assert set(re.findall(r"\$labels\.(\w+)", rule)) <= set(labels.split(", ")), rule
