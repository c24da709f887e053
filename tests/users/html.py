"""Enough of an HTML checker to keep the pages honest."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

VOID = {"br", "hr", "img", "input", "link", "meta", "wbr"}
CONTROLS = {"input", "select", "textarea"}


class Page(HTMLParser):
    """A page's elements, as tag and attributes, and what is wrong with them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.problems: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.problems += [f"<{tag}> is never closed" for tag in self._open]
        self._check()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if len(dict(attrs)) != len(attrs):
            self.problems.append(f"<{tag}> repeats an attribute")
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> closes something else")

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.elements if tag in tags]

    def attribute(self, name: str) -> list[str | None]:
        return [attrs[name] for _, attrs in self.elements if name in attrs]

    def _check(self) -> None:
        for tag, expected in {"html": 1, "title": 1, "main": 1, "h1": 1}.items():
            if (found := len(self.all(tag))) != expected:
                self.problems.append(f"{found} <{tag}>, expected {expected}")
        ids = Counter(self.attribute("id"))
        self.problems += [f"id {name!r} is used twice" for name, n in ids.items() if n > 1]
        pointing = self.attribute("aria-describedby") + self.attribute("for")
        for name in " ".join(filter(None, pointing)).split():
            if name not in ids:
                self.problems.append(f"nothing has the id {name!r}")
        for href in self.attribute("href"):
            if href and href.startswith("#") and href[1:] not in ids:
                self.problems.append(f"nothing to jump to for {href!r}")
        labelled = set(self.attribute("for"))
        for attrs in self.all(*CONTROLS):
            if attrs.get("type") != "hidden" and attrs.get("id") not in labelled:
                self.problems.append(f"no label for {attrs}")
        for attrs in self.all("img"):
            if "alt" not in attrs:
                self.problems.append(f"no alt for {attrs}")
        if len(self.attribute("autofocus")) > 1:
            self.problems.append("two elements want the focus")
        self._check_content_security()

    def _check_content_security(self) -> None:
        """Everything inline would be refused by the site's Content-Security-Policy."""
        if self.all("style") or self.attribute("style"):
            self.problems.append("inline style")
        if any("src" not in attrs for attrs in self.all("script")):
            self.problems.append("inline script")
        for _, attrs in self.elements:
            self.problems += [f"inline handler {name}" for name in attrs if name.startswith("on")]
        for address in self.attribute("src") + [a.get("href") for a in self.all("link")]:
            if address and "//" in address:
                self.problems.append(f"external asset {address}")
