"""The page in a real browser, at phone and desktop size.

Playwright runs an event loop in the test's thread. Django would open connections of the loop's own
there and never close them, so that the test itself leaves the database alone.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.db import connections
from django.test import override_settings
from django.urls import reverse
from pytest_django.live_server_helper import LiveServer

from pooling import PoolError, get_pool
from pooling.fleet import PUBLISHER
from tests.admin import urls
from tests.admin.conftest import PAGE, PASSWORD, make_user
from tests.fleet.test_server_sessions import complete
from tests.support.databases import PostgresDatabase
from tests.support.servers import settings_from_url
from tests.users.test_browser import ARGUMENTS, CHROMIUM, PHONE, POLICY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import ConsoleMessage, Page

    from pooling import Pool
    from tests.support.postgres import PrivatePostgres

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

DESKTOP = {"width": 1280, "height": 900}

playwright.expect.set_options(timeout=20_000)

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")


@pytest.fixture
def site(transactional_db: None) -> Iterator[str]:
    """The project with its Content-Security-Policy, and a user who may manage the pools."""
    make_user("view", "change", username="keeper", email="keeper@example.com", is_staff=True)
    connections["default"].close()
    middleware = [POLICY, *(name for name in settings.MIDDLEWARE if name != POLICY)]
    with override_settings(MIDDLEWARE=middleware, ROOT_URLCONF="tests.admin.urls"):
        server = LiveServer("127.0.0.1")
        try:
            yield server.url
        finally:
            server.stop()


@pytest.fixture
def pool(site: str) -> Iterator[Pool[Any]]:
    """The pool of the site, which is this process's."""
    pool = get_pool()
    pool.clear_stats()
    config = pool.config
    pool._state.set_config(dataclasses.replace(config, leak_after=3600.0))  # to have stacks
    yield pool
    pool.resume()
    pool._state.set_config(config)


@pytest.fixture
def load(pool: Pool[Any]) -> Iterator[threading.Event]:
    """Work on the pool while the event is set."""
    working, over = threading.Event(), threading.Event()

    def work() -> None:
        while not over.is_set():
            if working.wait(0.05):
                with pool.acquire():
                    over.wait(0.001)

    thread = threading.Thread(target=work)
    thread.start()
    yield working
    over.set()
    thread.join()


@pytest.fixture
def holding(site: str) -> Iterator[Any]:
    """A function that starts a request which holds a connection until `urls.let_go` is set."""
    urls.let_go.clear()
    with ThreadPoolExecutor(4) as executor:

        def read(number: int) -> bytes:
            with urllib.request.urlopen(f"{site}/hold/{number}/", timeout=120) as response:
                return bytes(response.read())

        yield lambda number: executor.submit(read, number)
        urls.let_go.set()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser had to say: refused scripts and styles, failed requests, errors."""
    return []


@pytest.fixture
def browser_page(site: str, complaints: list[str]) -> Iterator[Page]:
    def complain(message: ConsoleMessage) -> None:
        if not message.location["url"].endswith("/favicon.ico"):  # the admin has none
            complaints.append(message.text)

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport=PHONE, has_touch=True, is_mobile=True)
        page.set_default_timeout(20_000)
        page.on("console", complain)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        browser.close()


def assert_fits(page: Page) -> None:
    page.wait_for_load_state("load")  # before the style sheets are there, nothing fits
    viewport = page.viewport_size
    width = page.evaluate("document.documentElement.scrollWidth")
    assert viewport is not None
    assert width <= viewport["width"], f"{page.url} is {width} pixels wide"


def wait_for_update(page: Page) -> None:
    """Wait until the page has fetched its numbers twice: the second time all of it is newer."""
    for _ in range(2):
        time = page.locator(".pools-scope time").inner_text()
        page.wait_for_function(
            "time => document.querySelector('.pools-scope time').innerText !== time", arg=time
        )


def leases(page: Page) -> int:
    found = re.search(r"Leases\s+([\d,]+)", page.locator(".facts").first.inner_text())
    assert found
    return int(found[1].replace(",", ""))


def set_hidden(page: Page, *, hidden: bool) -> None:
    """Pretend that the browser has put the tab into the background, or fetched it back."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )
    page.wait_for_load_state("networkidle")


def log_in(page: Page, site: str) -> None:
    page.goto(f"{site}{reverse('admin:login')}?next={reverse(PAGE)}")
    page.get_by_label("Username").fill("keeper")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def test_a_user_manages_the_pools(
    site: str,
    pool: Pool[Any],
    load: threading.Event,
    holding: Any,
    browser_page: Page,
    complaints: list[str],
) -> None:
    expect, page = playwright.expect, browser_page
    log_in(page, site)
    expect(page.get_by_role("heading", name="Connection pools", level=1)).to_be_visible()
    default = page.get_by_role("region", name="default")
    expect(default).to_contain_text("0 of 10 connections in use, no caller waits.")
    assert_fits(page)

    # The numbers move while there is load.
    before = leases(page)
    load.set()
    wait_for_update(page)
    assert leases(page) > before
    load.clear()

    # Who holds it, and since when: the page shows the request's path.
    request = holding(7)
    expect(default.get_by_role("table", name="Leases")).to_contain_text("GET /hold/7/")
    expect(default).to_contain_text(re.compile(r"Longest lease: .* for GET /hold/7/"))
    assert_fits(page)

    # An update keeps focus, typed values and open details.
    default.get_by_text("Effective options").click()
    upper = default.get_by_label(re.compile("Upper limit"))
    upper.fill("7")
    holding(8)
    expect(default.get_by_role("table", name="Leases")).to_contain_text("GET /hold/8/")
    expect(upper).to_be_focused()
    expect(upper).to_have_value("7")
    expect(default.get_by_role("rowheader", name="max_idle")).to_be_visible()
    default.get_by_text("Stack of the acquire").first.click()
    wait_for_update(page)
    expect(default.get_by_role("region", name=re.compile("Stack of"))).to_contain_text("in hold")
    for viewport in (DESKTOP, PHONE):
        page.set_viewport_size(viewport)
        assert_fits(page)
    urls.let_go.set()
    assert request.result(60) == b"done"
    expect(default).to_contain_text("0 of 10 connections in use")

    # Fewer places: that is asked back.
    default.get_by_role("button", name="Resize… default").click()
    expect(page.get_by_role("heading", name="Resize pool “default”?")).to_be_visible()
    assert_fits(page)
    page.get_by_role("button", name="Yes, resize").click()
    expect(page.get_by_text("is being resized in 1 process")).to_be_visible()
    expect(default).to_contain_text("of 7 connections in use")

    page.set_viewport_size(DESKTOP)
    default.get_by_role("button", name="Drain… default", exact=True).click()
    expect(page.get_by_role("main")).to_contain_text("will be replaced")
    page.get_by_role("button", name="Yes, drain").click()
    expect(page.get_by_text("is being drained in 1 process")).to_be_visible()
    expect(default).to_contain_text(re.compile(r"\d drained"))
    assert_fits(page)

    # The pool of the page itself is suspended, and resumed from the page.
    default.get_by_role("button", name="Suspend").click()
    page.get_by_role("button", name="Yes, suspend").click()
    expect(default).to_contain_text("Suspended: no connection is lent")
    expect(page.get_by_text("The user database does not answer you")).to_be_visible()
    wait_for_update(page)
    default.get_by_role("button", name="Resume").click()
    expect(default).to_contain_text("of 7 connections in use, no caller waits.")
    expect(default.get_by_role("button", name="Resume")).to_have_count(0)
    assert complaints == []


def test_updates_stop_in_a_hidden_tab_and_on_demand(
    site: str, pool: Pool[Any], browser_page: Page, complaints: list[str]
) -> None:
    page = browser_page
    page.clock.install()
    log_in(page, site)
    wait_for_update(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with page.expect_response(re.compile("/live/")):
        page.clock.run_for(3_000)
    set_hidden(page, hidden=True)
    asked.clear()
    page.clock.run_for(60_000)
    assert asked == []
    with page.expect_response(re.compile("/live/")):  # as soon as the tab is seen again
        set_hidden(page, hidden=False)
    switch = page.get_by_label("Update every two seconds")
    switch.uncheck()
    assert page.evaluate("document.getElementById('pools-switch').hidden") is False
    with page.expect_response(re.compile("/live/")):
        switch.check()
    assert complaints == []


def test_an_update_shows_what_the_server_sent(
    site: str, pool: Pool[Any], browser_page: Page, complaints: list[str]
) -> None:
    """Rows come, go, change places, and two may have the same key."""
    page = browser_page
    log_in(page, site)
    frame = '<p class="pools-scope"><time>{}</time></p><p id="pools-summary">news</p>'
    steps = [["a 1", "b 2"], ["b 3", "a 1", "a 4"], ["a 4"], ["c", "a 5", "a 6", "d"], [], ["a 1"]]
    served = [frame.format("before")]
    page.locator("#pools").wait_for()  # in the middle of a navigation a route may get lost
    page.route("**/live/**", lambda route: route.fulfill(body=served[0]))
    for number, step in enumerate(steps):
        rows = "".join(
            f'<tr data-key="{row[0]}"><td>{row}</td><td><details></details></td></tr> '
            for row in step
        )
        served[0] = f"{frame.format(number)} text {number}<table><tbody>{rows}</tbody></table>"
        playwright.expect(page.locator("#pools time")).to_have_text(str(number))
        assert page.locator("#pools td:first-child").all_inner_texts() == step
        assert f"text {number}" in page.locator("#pools").inner_text()
    assert page.locator("#pools-announcement").inner_text() == "news"
    assert complaints == []


def test_the_page_is_complete_without_javascript(site: str, pool: Pool[Any]) -> None:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_context(java_script_enabled=False).new_page()
        page.set_default_timeout(20_000)
        log_in(page, site)
        default = page.get_by_role("region", name="default")
        playwright.expect(default).to_contain_text("connections in use")
        page.get_by_role("link", name="every five seconds").click()
        playwright.expect(page.get_by_role("link", name="Stop")).to_be_visible()
        playwright.expect(page.get_by_label("Update every two seconds")).to_be_hidden()
        page.get_by_role("link", name="Stop").click()
        default.get_by_role("button", name="Clear statistics").click()
        page.get_by_role("button", name="Yes, clear statistics").click()
        playwright.expect(page.get_by_text("has its statistics cleared")).to_be_visible()
        browser.close()


def test_graphs_are_drawn_and_survive_updates(
    site: str, pool: Pool[Any], browser_page: Page, complaints: list[str]
) -> None:
    expect, page = playwright.expect, browser_page
    PUBLISHER._sample([pool])
    observed = PUBLISHER._observed[pool]
    now = time.time()
    for ago in (60, 55, 50, 5):  # other tests may have left some
        observed.history.sample(pool.stats(), (3, 2), now - ago)
    PUBLISHER._archive["slot"] = 0
    log_in(page, site)
    graphs = page.get_by_role("region", name="default").locator(".graphs")
    expect(graphs.locator("canvas")).to_have_count(4)
    expect(graphs.locator("figcaption").first).to_contain_text("Connections and waiting callers")
    first = graphs.locator("canvas").first.element_handle()
    wait_for_update(page)
    assert first.evaluate("node => node.isConnected")
    for viewport in (DESKTOP, PHONE):
        page.set_viewport_size(viewport)
        page.wait_for_function(
            # A function: an expression that is not true at once is `eval`, which the page forbids.
            "() => Math.abs(document.querySelector('.graphs .uplot').clientWidth"
            " - document.querySelector('.graphs').clientWidth) < 3"
        )
        assert_fits(page)
    page.get_by_role("link", name="1 day").click()
    expect(graphs.locator("canvas")).to_have_count(4)
    wait_for_update(page)
    page.get_by_text("History as a table").click()
    expect(page.get_by_role("table", name=re.compile("History of default"))).to_be_visible()
    assert complaints == []


def test_the_end_of_the_session_is_no_outage(
    site: str, pool: Pool[Any], browser_page: Page
) -> None:
    expect, page = playwright.expect, browser_page
    log_in(page, site)
    wait_for_update(page)
    page.route("**/live/**", lambda route: route.abort())
    expect(page.locator("#pools-lost")).to_contain_text("the site does not answer")
    expect(page.locator("#pools-ended")).to_be_hidden()
    page.unroute("**/live/**")
    expect(page.locator("#pools-lost")).to_have_text("")
    page.context.clear_cookies()
    banner = page.get_by_role("alert")
    expect(banner).to_contain_text("Your session has ended")
    assert page.evaluate("document.getElementById('pools').classList.contains('stale')")
    expect(page.locator("#pools-lost")).to_have_text("")
    assert_fits(page)
    banner.get_by_role("link", name="Log in again").click()
    expect(page.get_by_label("Password")).to_be_visible()


def test_an_outage_is_the_first_thing_to_see(
    site: str, pool: Pool[Any], private_postgres: PrivatePostgres, browser_page: Page
) -> None:
    """Red and first while the server is away; grey, with its time, when it is back."""
    expect, page = playwright.expect, browser_page
    entry = complete(settings_from_url(private_postgres.url, "pooling.backends.postgresql"))
    database = PostgresDatabase(entry, private_postgres.url)
    wrapper = database.wrapper(pool={"name": "z-orders", "timeout": 0.5, "fail_fast": 0.1})
    orders = wrapper.resolve_pool()
    orders.acquire(60).release()
    private_postgres.stop("immediate")
    for _ in range(5):
        with pytest.raises(PoolError):
            orders.acquire()
    log_in(page, site)
    first = page.locator("section.pool").first
    expect(first.get_by_role("heading", level=2)).to_have_text("z-orders")
    health = first.locator(".health")
    expect(health).to_contain_text(re.compile("Server unreachable since .*5 callers refused"))
    expect(health).to_contain_text(re.compile("Next attempt (now|in|with)"))
    red = page.evaluate("getComputedStyle(document.querySelector('.health')).color")
    error = first.locator(".last-error")
    expect(error).to_contain_text(re.compile("Last connect error, (just now|.* ago): .+"))
    assert error.evaluate("node => getComputedStyle(node).color") == red == "rgb(186, 33, 33)"
    assert_fits(page)

    private_postgres.start()
    with orders.acquire(30):
        pass
    default, healed = page.get_by_role("region", name="default"), page.locator("#pools")
    expect(healed.locator(".last-error.recovered")).to_contain_text("recovered since")
    grey = healed.locator(".last-error").evaluate("node => getComputedStyle(node).color")
    assert grey != red
    expect(healed.locator("section.pool").first).to_contain_text("default")
    expect(default).to_be_visible()
    orders.close()
