"""Comparing two runs, for instance in CI: has a contender's ratio to its baseline changed?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from pooling.formatting import plural

from .results import SCHEMA, Document, Result, ratio_of
from .statistics import Ratio
from .verdict import ratio_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class DocumentError(ValueError):
    """A file holds no result document; the message says what it holds."""


class Change(NamedTuple):
    """How many times the old ratio the new one is."""

    title: str
    change: Ratio

    def __str__(self) -> str:
        same = ", no difference" if self.change.is_tie else ""
        return f"{self.title}: {ratio_text(self.change)} times the old ratio{same}"


def load(path: Path) -> Document:
    """Return a result document.

    Raises:
        DocumentError: the file cannot be read, or holds something else.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DocumentError(f"{path}: {error}") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise DocumentError(f"{path} is no result document of schema {SCHEMA}; write one by --json")
    document: Document = found
    return document


def changes(old: Document, new: Document) -> list[Change]:
    """Return the changes of what both have measured, without the baselines."""
    before = dict(_ratios(old))
    return [
        Change(title, Ratio(now.value / was.value, now.low / was.high, now.high / was.low))
        for title, now in _ratios(new)
        if (was := before.get(title)) is not None
    ]


def _ratios(document: Document) -> Iterator[tuple[str, Ratio]]:
    for each in document["results"]:
        found = ratio_of(each)
        if found is not None and found.low and not each["baseline"]:
            yield _title(each), found


def _title(each: Result) -> str:
    parts = [each["database"], each["workload"]]
    parts += [each["operation"]] if each["operation"] != each["workload"] else []
    if sweep := each["sweep"]:
        parts.append(f"{sweep['name']} {sweep['value']}")
    return f"{each['contender']} ({', '.join(parts)}, {plural(each['threads'], 'thread')})"
