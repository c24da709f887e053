"""Reports: a run's result document as text, Markdown, an HTML page, or JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from . import html, markdown

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooling.bench.results import Document

WRITERS: dict[str, Callable[[Document], str]] = {
    "json": lambda document: json.dumps(document, indent=1) + "\n",
    "markdown": markdown.render,
    "report": html.render,
}
"""What makes the content of a file, by the name of the command's option."""
