"""Pieces of HTML. What is called `text` gets escaped, what is called `html` is taken as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .charts.svg import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def figure(
    svg_html: str,
    title: str,
    how: str,
    said: Iterable[str],
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
) -> str:
    """Return a chart with what it shows, what it says, and its numbers as a table."""
    sentences = " ".join(filter(None, said))
    return (
        f'<figure><figcaption><b>{quote(title)}</b><span class="soft">{quote(how)}</span>'
        f"</figcaption>{svg_html}"
        + (f"<p>{quote(sentences)}</p>" if sentences else "")
        + f"<details><summary>The numbers</summary>{table(title, header, rows)}</details></figure>"
    )


def table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], class_: str = ""
) -> str:
    """Return a table that scrolls by itself if it is too wide for the page."""
    return grid(caption, header, [[(cell, "") for cell in row] for row in rows], class_)


def grid(
    caption: str,
    header: Sequence[str],
    rows: Iterable[Sequence[tuple[str, str]]],
    class_: str = "",
) -> str:
    """Return a table whose cells are texts with a class; a text's second line is small."""
    head = "".join(f'<th scope="col">{quote(each)}</th>' for each in header)
    body = ""
    for row in rows:
        cells = [f'<th scope="row">{quote(text)}</th>' for text, _class in row[:1]]
        cells += [_cell(*each) for each in row[1:]]
        body += f"<tr>{''.join(cells)}</tr>"
    named = f' class="{class_}"' if class_ else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{quote(caption)}">'
        f"<table{named}><caption>{quote(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(text: str, class_: str) -> str:
    first, _, second = text.partition("\n")
    named = f' class="{class_}"' if class_ else ""
    small = f"<small>{quote(second)}</small>" if second else ""
    return f"<td{named}>{quote(first)}{small}</td>"


def bullets(texts: Iterable[str], class_: str = "plain") -> str:
    items = "".join(f"<li>{quote(each)}</li>" for each in texts if each)
    return f'<ul class="{class_}">{items}</ul>' if items else ""


def paragraph(text: str, class_: str = "") -> str:
    named = f' class="{class_}"' if class_ else ""
    return f"<p{named}>{quote(text)}</p>" if text else ""


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    inside = "".join(f"<dt>{quote(name)}</dt><dd>{quote(value)}</dd>" for name, value in pairs)
    return f"<dl>{inside}</dl>" if inside else ""
