"""A run on a terminal or in a pipe: the details if they are wanted, and the verdict last."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING

from . import layout, markdown

if TYPE_CHECKING:
    from typing import TextIO

    from pooling.bench.results import Document

BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


def render(document: Document, stream: TextIO, *, details: bool = False) -> None:
    """Write a document to a stream.

    Args:
        details: whether tables and notes come before the verdict.
    """
    width = shutil.get_terminal_size((120, 24)).columns
    lines = [f"{kind}: {text}" for kind, text in layout.notes(document) if kind != "note"]
    lines += document["verdict"]
    if details:
        write(stream, markdown.details(document))
        lines = document["verdict"]
    for line in lines:
        wrapped = "\n".join(textwrap.wrap(line, width, break_on_hyphens=False))
        subject, colon, rest = wrapped.partition(": ")
        name = f"{BOLD}{subject}{colon}{PLAIN}" if stream.isatty() else subject + colon
        write(stream, f"{name}{rest}\n")


def write(stream: TextIO, text: str) -> None:
    """Write a text, without the signs that the stream's encoding lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
