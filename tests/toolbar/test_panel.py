"""The panel of django-debug-toolbar, in a page and as the toolbar fetches it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings as current
from django.test import Client

if TYPE_CHECKING:
    from tests.support.databases import Database

PANEL = "pooling.debug_toolbar.PoolingPanel"


@pytest.fixture
def _toolbar(settings: Any) -> None:
    settings.INSTALLED_APPS = [*current.INSTALLED_APPS, "debug_toolbar"]
    settings.MIDDLEWARE = ["debug_toolbar.middleware.DebugToolbarMiddleware"]
    settings.ROOT_URLCONF = "tests.toolbar.toolbar_urls"
    settings.DEBUG_TOOLBAR_PANELS = ["debug_toolbar.panels.sql.SQLPanel", PANEL]
    settings.DEBUG_TOOLBAR_CONFIG = {
        "SHOW_TOOLBAR_CALLBACK": lambda _request: True,
        "IS_RUNNING_TESTS": False,
    }
    settings.DEBUG = True


@pytest.mark.usefixtures("_toolbar")
def test_the_panel_shows_the_leases_of_a_request(database: Database) -> None:
    pool = {"name": "shown", "scope": "transaction", "max_size": 7}
    with database.alias("pooled", pool=pool):
        page = Client().get("/query/")
        assert re.search(r"3 leases, waited [\d.]+ (µs|ms|s)", page.text)
        assert "PoolingPanel_waited;dur=" in page["Server-Timing"]
        (request,) = re.findall(r'data-request-id="(\w+)"', page.text)
        where = f"/__debug__/render_panel/?request_id={request}&panel_id=PoolingPanel"
        content = Client().get(where).json()["content"]
    assert len(re.findall("<tr>\\s*<td>pooled</td>", content)) == 3
    assert content.count("tests/toolbar/urls.py:") == 3, "not the toolbar's own cursors"
    assert content.count("ensure_connection()") == 1
    assert content.count("until the response was made") == 1
    assert "<td>shown</td><td>1</td>" in content
