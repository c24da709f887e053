"""What the writers of pages share: reading results, and replacing a block between two comments."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pooling.bench.reports import layout
from pooling.bench.results import SCHEMA

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from pooling.bench.results import Document


class PageError(ValueError):
    """The page or the document cannot be used; the message says why."""


def replace(page: str, inside: str, name: str, title: str) -> str:
    """Return a page with another text between the comments `name:begin` and `name:end`.

    Raises:
        PageError: the comments are not there, once each and in this order.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    for comment in (begin, end):
        if page.count(comment) != 1:
            raise PageError(
                f"{title} has {comment} {page.count(comment)} times and needs it once; "
                "put both comments where the table belongs"
            )
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise PageError(f"{end} has to come after {begin}")
    return f"{before}{begin}\n{inside}\n{end}{after}"


def read(path: Path) -> str:
    """Return the text of a page.

    Raises:
        PageError: there is none.
    """
    if not path.is_file():
        raise PageError(f"there is no {path}; run this at the top of the checkout")
    return path.read_text(encoding="utf-8")


def load(path: Path) -> Any:
    """Return a result document.

    Raises:
        PageError: the file holds something else.
        OSError, ValueError: it cannot be read.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise PageError(f"{path} is not a result document")
    return document


def machine(document: Document) -> str:
    """Return processor and system; its release says more about a machine than readers need."""
    environment = document["environment"]
    return f"{environment['cpu']}, {environment['system'].partition(' ')[0]}"


def signature(document: Document) -> str:
    """Return when, where and on what a document was made."""
    return f"{layout.summary(document)} · {machine(document)}"


def run(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    update: Callable[[Mapping[str, Any]], None],
) -> int:
    """Call `update` with the parsed arguments; return the exit code."""
    parser.add_argument("--root", type=Path, default=Path(), help="the top of the checkout")
    given = vars(parser.parse_args(arguments))
    try:
        update(given)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    return 0
