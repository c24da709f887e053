"""`docs/checks.md` and `docs/observing.md` say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from django.dispatch import Signal

from pooling import signals
from pooling.checks.options import SETTING
from pooling.metrics.definitions import METRICS

ROOT = Path(__file__).parents[2]
CHECKS = (ROOT / "docs/checks.md").read_text()
OBSERVING = (ROOT / "docs/observing.md").read_text()


def first_column(text: str, heading: str) -> list[str]:
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([\w.]+)` \|", section, re.MULTILINE)


def test_every_id_is_documented_once_and_none_is_invented() -> None:
    source = "".join(path.read_text() for path in (ROOT / "pooling/checks").glob("*.py"))
    used = set(re.findall(r'id="(pooling\.[EWI]\d{3})"', source))
    documented = re.findall(r"^\| `(pooling\.[EWI]\d{3})` \|", CHECKS, re.MULTILINE)

    assert set(documented) == used
    assert len(documented) == len(set(documented))


def test_every_option_of_the_setting_is_documented() -> None:
    assert first_column(CHECKS, "The setting POOLING") == list(SETTING)


def test_every_metric_is_documented_with_both_its_names() -> None:
    rows = re.findall(r"^\| `(pooling_\w+)` \| (?:`([\w.]+)`)? ?\|", OBSERVING, re.MULTILINE)

    assert rows == [(metric.name, metric.convention or "") for metric in METRICS]


def test_every_signal_is_documented() -> None:
    names = [name for name, value in vars(signals).items() if isinstance(value, Signal)]

    assert first_column(OBSERVING, "Signals") == names
