"""The report: one well-formed file that needs nothing else and explains itself."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import pytest

from pooling.bench.reports import html, words
from tests.bench.reports.samples import EMPTY, document, hollow, hostile
from tests.bench.reports.test_text import DOCUMENTS

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "br"}
OWN = {"rect", "line", "path", "circle"}


class Reader(HTMLParser):
    """Takes a page apart and fails when it is not well-formed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def charts(page: str) -> list[ET.Element]:
    return [ET.fromstring(each) for each in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def text_of(page: str) -> str:
    return re.sub(r"<[^>]+>", " ", page)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_document_becomes_a_well_formed_page(name: str) -> None:
    page = html.render(DOCUMENTS[name]())
    read = Reader(page)

    ids = [attributes["id"] for _tag, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert charts(page) or name in ("empty", "no keys", "all unknown")
    for number in re.findall(r'(?:x|y|x1|y1|x2|y2|cx|cy|width|height|d)="([^"]*)"', page):
        assert "nan" not in number
        assert "inf" not in number


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_page_needs_nothing_from_elsewhere(name: str) -> None:
    page = html.render(DOCUMENTS[name]())
    read = Reader(page)

    assert not {tag for tag, _ in read.tags} & {"script", "link", "img", "iframe", "object", "use"}
    for _tag, attributes in read.tags:
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in page
    assert "url(" not in page
    assert set(re.findall(r"https?://[^\"' <]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_links_lead_to_something() -> None:
    read = Reader(html.render(document()))
    ids = {attributes.get("id") for _tag, attributes in read.tags}

    targets = {attributes["href"] for tag, attributes in read.tags if tag == "a"}
    assert targets
    assert {str(each)[1:] for each in targets} <= ids


def test_a_text_is_a_text_and_nothing_more() -> None:
    page = html.render(hostile())

    assert "<script" not in page
    assert "alert(&#x27;1&#x27;)" in page
    assert "\x1b" not in page
    for chart in charts(page):
        assert not [each for each in chart.iter() if each.tag.removeprefix(SVG) == "script"]


def test_every_chart_has_a_title_a_description_and_a_table() -> None:
    page = html.render(document())
    found = charts(page)

    assert len(found) > 30
    for chart in found:
        title, description = chart.find(f"{SVG}title"), chart.find(f"{SVG}desc")
        assert title is not None
        assert title.text
        assert description is not None
        assert description.text
        assert chart.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert chart.get("role") == "img"
    figures = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)
    assert len(figures) == len(found)
    assert all("<details>" in each and "<table>" in each for each in figures)


def test_what_is_drawn_stays_inside_the_chart() -> None:
    for given in (document(), hostile()):
        for chart in charts(html.render(given)):
            _x, _y, width, height = map(float, str(chart.get("viewBox")).split())
            for each in chart.iter():
                if each.tag.removeprefix(SVG) not in OWN or each.get("class") == "sheet":
                    continue
                across = [float(each.get(key, 0)) for key in ("x", "x1", "x2", "cx")]
                down = [float(each.get(key, 0)) for key in ("y", "y1", "y2", "cy")]
                assert min(across) >= 0
                assert max(across) + float(each.get("width", 0)) <= width
                assert min(down) >= 0
                assert max(down) <= height


def test_the_page_says_in_words_what_the_numbers_say() -> None:
    given = document()
    for each in given["results"]:
        if (each["contender"], each["workload"], each["threads"]) == ("pooled", "connect", 8):
            each |= {"ratio": 17.2, "ratio_low": 15.1, "ratio_high": 18.9}
    text = text_of(html.render(given))

    assert (
        "pooling (psycopg 3) is 17 times as fast as Stock Django here, between 15 and 19." in text
    )
    assert "psycopg2 ThreadedConnectionPool: 214 of 814 operations failed." in text
    assert "connection pool exhausted (214 times)" in text
    assert "PostgreSQL, connect, 8 threads: noise is larger than the difference" in text
    assert "rule of thumb: 5" in text
    assert "gevent-pool" in text
    assert "max_connections 100" in text


def test_all_contenders_are_treated_alike() -> None:
    """Swap two contenders' names: the page is the same but for the names."""
    given = document()
    names = {"pooled": "native", "native": "pooled"}
    swapped: dict[str, Any] = document()
    for each in swapped["results"]:
        each["contender"] = names.get(each["contender"], each["contender"])
    for each in swapped["contenders"]:
        each["name"] = names.get(each["name"], each["name"])

    assert html.render(given) == html.render(swapped)


def test_what_cannot_be_drawn_is_left_out() -> None:
    assert charts(html.render(hollow())) == []
    assert "Nothing was measured." in html.render(EMPTY)


def test_colours_can_be_read_by_day_and_by_night() -> None:
    """WCAG 2.2: 4.5 to 1 for text, 3 to 1 for shapes."""
    page = html.render(EMPTY)
    themes = re.findall(r"--paper:#[^}]+", page)
    assert len(themes) == 3  # light, dark, print
    for theme in themes:
        colours = dict(re.findall(r"--(\w+):(#\w+)", theme))
        for ground in (colours["paper"], colours["panel"]):
            for name in ("ink", "soft", "alarm"):
                assert contrast(colours[name], ground) >= 4.5, name
            for name in ("bar", "quiet", *(f"h{number}" for number in range(7))):
                assert contrast(colours[name], ground) >= 3, name
        for ground in (colours["better"], colours["worse"]):
            assert contrast(colours["soft"], ground) >= 4.5, ground


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * each for each in colour[1:])
        parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        linear = [
            each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_unknown_figures_are_shown_as_unknown_and_not_as_zero() -> None:
    given = document()
    for each in given["results"]:
        each["p99_ms"] = None

    assert words.UNKNOWN in text_of(html.render(given))
