"""A whole visit in a real browser, on a phone.

Playwright runs an event loop in the test's thread. Django would open connections of the loop's own
there and never close them, so that the test itself leaves the database alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.test import override_settings
from pytest_django.live_server_helper import LiveServer

from tests.users.conftest import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from tests.users.conftest import MakeUser

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 390, "height": 844}
POLICY = "poolproject.middleware.content_security_policy"

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")


@pytest.fixture
def people(transactional_db: None, make_user: MakeUser) -> None:
    """An account that may manage users, a full page of them, and names that are too long."""
    make_user("view", "add", "change", "delete", username="clerk")
    long = "x" * 100
    make_user(username=f"long{long}", first_name=long, last_name=long, email=f"{long}@example.com")
    for number in range(30):
        make_user(username=f"user{number}")


@pytest.fixture
def site(people: None) -> Iterator[str]:
    """The project with its Content-Security-Policy, whatever middleware the tests run without."""
    middleware = [POLICY, *(name for name in settings.MIDDLEWARE if name != POLICY)]
    with override_settings(MIDDLEWARE=middleware):
        server = LiveServer("127.0.0.1")
        try:
            yield server.url
        finally:
            server.stop()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser had to say: refused scripts and styles, failed requests, errors."""
    return []


def failure(request: playwright.Request) -> list[str]:
    """Return what there is to complain of in a failed request.

    The browser fetches the icon when it likes, and drops that when it leaves the page.
    """
    if request.failure == "net::ERR_ABORTED" or request.url.endswith("/icon.svg"):
        return []
    return [f"failed: {request.url}: {request.failure}"]


@pytest.fixture
def phone(site: str, complaints: list[str]) -> Iterator[Page]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport=PHONE, has_touch=True, is_mobile=True)
        page.set_default_timeout(20_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.extend(failure(request)))
        yield page
        browser.close()


def assert_fits(page: Page) -> None:
    page.wait_for_load_state("load")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"], f"{page.url} is {width} pixels wide"


def test_somebody_looks_after_users_on_a_phone(
    site: str, phone: Page, complaints: list[str]
) -> None:
    expect = playwright.expect
    main = phone.get_by_role("main")

    phone.goto(site)
    assert_fits(phone)
    phone.get_by_label("Username").fill("clerk")
    phone.get_by_label("Password").fill(PASSWORD)
    phone.get_by_role("button", name="Log in").click()
    expect(phone.get_by_role("heading", name="Users")).to_be_visible()
    assert_fits(phone)

    phone.get_by_role("link", name="Add user").click()
    phone.get_by_label("Username").fill("two words")
    phone.get_by_label("First name").fill("Ada")
    phone.get_by_label("Last name").fill("Lovelace")
    phone.get_by_label("Email address").fill("ada@example.com")
    phone.get_by_label("Password", exact=True).fill(PASSWORD)
    phone.get_by_label("Password, again").fill(PASSWORD)
    phone.get_by_role("button", name="Add user").click()
    summary = phone.get_by_role("alert")
    expect(summary).to_be_focused()
    assert_fits(phone)
    summary.get_by_role("link").click()
    expect(phone.get_by_label("Username")).to_be_focused()
    phone.get_by_label("Username").fill("ada")
    phone.get_by_label("Password", exact=True).fill(PASSWORD)
    phone.get_by_label("Password, again").fill(PASSWORD)
    phone.get_by_role("button", name="Add user").click()
    expect(main.get_by_role("status")).to_have_text("Ada Lovelace was created.")
    assert_fits(phone)

    phone.get_by_role("navigation", name="Main").get_by_role("link", name="Users").click()
    phone.get_by_label(re.compile("Search")).fill("lovelace")
    phone.get_by_role("button", name="Search").click()
    expect(main).to_contain_text("Showing 1–1 of 1 matching “lovelace”")  # noqa: RUF001 - a range
    assert_fits(phone)

    phone.get_by_role("link", name="Ada Lovelace").click()
    phone.get_by_role("link", name="Edit").click()
    phone.get_by_label("Last name").fill("King")
    phone.get_by_role("button", name="Save").click()
    expect(main.get_by_role("status")).to_have_text("Ada King was changed.")

    phone.get_by_role("link", name="Delete").click()
    expect(phone.get_by_role("heading", name="Delete Ada King?")).to_be_visible()
    assert_fits(phone)
    phone.get_by_role("button", name="Delete Ada King").click()
    expect(main.get_by_role("status")).to_have_text("Ada King was deleted.")
    phone.get_by_label(re.compile("Search")).fill("lovelace")
    phone.get_by_role("button", name="Search").click()
    expect(main).to_contain_text("No users match “lovelace”")
    assert_fits(phone)

    phone.get_by_role("link", name="Show all users").click()
    phone.get_by_role("link", name="Next").click()
    expect(main).to_contain_text("Showing 26–32 of 32")  # noqa: RUF001 - a range
    assert_fits(phone)
    phone.get_by_role("link", name="Email").click()
    expect(phone.get_by_role("columnheader", name="Email")).to_have_attribute(
        "aria-sort", "ascending"
    )
    phone.get_by_role("button", name="Log out").click()
    expect(main.get_by_role("status")).to_have_text("You are logged out.")
    assert complaints == []
