"""The report: one well-formed file that needs nothing else and shows what the document says."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from pooling.bench.reports import html
from tests.bench.reports.samples import document, empty, hostile
from tests.users.test_browser import ARGUMENTS, CHROMIUM

if TYPE_CHECKING:
    from pathlib import Path

    from pooling.bench.results import Document

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "br"}
DOCUMENTS = {"everything": document(), "hostile": hostile(), "empty": empty()}


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
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


@pytest.mark.parametrize("given", DOCUMENTS.values(), ids=DOCUMENTS)
def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(given: Document) -> None:
    page = html.render(given)
    read = Reader(page)

    assert not {tag for tag, _ in read.tags} & {"link", "img", "iframe", "object", "use"}
    # The only script is data.
    assert [each for tag, each in read.tags if tag == "script"] == [
        {"id": "poolbench", "type": "application/json"}
    ]
    data = re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert json.loads(data[1]) == json.loads(json.dumps(given))
    for _tag, attributes in read.tags:
        assert not {"src", "href"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in page
    assert "url(" not in page
    assert set(re.findall(r"https?://[^\"' <]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert bool(charts(page)) == bool(given["results"])


def test_a_text_is_a_text_and_nothing_more() -> None:
    page = html.render(hostile())

    assert page.count("<script") == 1
    assert "alert(&#x27;1&#x27;)" in page


def test_the_page_shows_what_the_document_says() -> None:
    text = text_of(html.render(document()))

    assert "PostgreSQL · CRUD · 8 threads" in text
    assert "Stock Django 3 877 14.1 baseline" in text
    assert text.index("Gain") < text.index("All figures") < text.index("Stock Django 3 877")
    assert "psycopg2&#x27;s ThreadedConnectionPool" in text
    assert "214 x PoolError: connection pool exhausted" in text
    assert "the last caller got PoolTimeout (after 0.500 s)" in text
    assert "warning : the machine was busy before the run" in text
    assert "left out : native on SQLite: it stopped" in text
    assert "knee of pooling 4 connections rule of thumb 5 connections" in text
    assert "version 18.0, max_connections 100" in text
    assert "Nothing was measured." in html.render(empty())


def test_unknown_figures_are_shown_as_unknown_and_not_as_zero() -> None:
    given = document()
    for each in given["results"]:
        each["p99_ms"] = None

    assert "–" in text_of(html.render(given))  # noqa: RUF001 - an en dash


def test_all_contenders_are_treated_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Swap two contenders' names: the figures are the same but for the names."""
    monkeypatch.setattr(html, "json_script", lambda *_: "")
    given, swapped = document(), document()
    names = {"pooled": "native", "native": "pooled"}
    for each in swapped["results"]:
        each["contender"] = names.get(each["contender"], each["contender"])
    for one in swapped["contenders"]:
        one["name"] = names.get(one["name"], one["name"])

    assert html.render(given) == html.render(swapped)


def test_the_language_of_the_project_changes_no_number(settings: object) -> None:
    settings.LANGUAGE_CODE, settings.USE_THOUSAND_SEPARATOR = "de", True  # type: ignore[attr-defined]
    for chart in charts(html.render(document())):
        for each in chart.iter(f"{SVG}circle"):
            assert float(each.get("cx", "")) > 0


def test_colours_can_be_read_by_day_and_by_night() -> None:
    """WCAG 2.2: 4.5 to 1 for text, 3 to 1 for shapes."""
    themes = re.findall(r"--paper:#[^}]+", html.render(empty()))
    assert len(themes) == 2  # light and dark; print is light
    for theme in themes:
        colours = dict(re.findall(r"--(\w+):(#\w+)", theme))
        for name in ("ink", "soft", "alarm"):
            assert contrast(colours[name], colours["paper"]) >= 4.5, name
        for name in ("bar", "quiet"):
            assert contrast(colours[name], colours["paper"]) >= 3, name


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


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_verdict_and_one_chart_fit_on_a_screen(width: int, height: int, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    file = tmp_path / "report.html"
    file.write_text(html.render(document()))
    requests: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="dark")
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        wide, bottom, charts = page.evaluate(
            "[document.documentElement.scrollWidth,"
            " document.querySelector('.first').getBoundingClientRect().bottom,"
            " [...document.querySelectorAll('svg')].filter(each => each.checkVisibility()).length]"
        )
        browser.close()
    assert requests == [file.as_uri()]
    assert charts == 1
    assert wide <= width
    assert width < 1280 or bottom <= height
