"""Django's reports of exceptions show local variables: none of them holds a password."""

from __future__ import annotations

import secrets
import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.test import RequestFactory, override_settings
from django.views.debug import technical_500_response

from tests.backends.test_identity import subclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.databases import Database, PostgresDatabase

SECRET = secrets.token_hex()
"""Not a literal: reports show lines of source as well."""


def report(act: Callable[[], Any], error: type[Exception], accept: str) -> str:
    """Return the page that Django answers with when a view fails, DEBUG or not."""
    request = RequestFactory().get("/", headers={"accept": accept})
    try:
        act()
    except error:
        return technical_500_response(request, *sys.exc_info()).content.decode()
    raise AssertionError("it did not fail")


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_a_refused_password_is_not_in_the_report(
    postgresql: PostgresDatabase, role: str, debug: bool, accept: str
) -> None:
    wrapper = postgresql.wrapper(USER=role, PASSWORD=SECRET, OPTIONS={"sslpassword": SECRET})
    with override_settings(DEBUG=debug):
        page = report(wrapper.ensure_connection, OperationalError, accept)
    assert "password authentication failed" in page
    assert SECRET not in page
    if accept == "text/html":
        assert "ensure_connection" in page
        assert "conn_params" in page, "the frames are there, with what they may show"


def test_a_refused_token_of_a_subclass_is_not_in_the_report(
    postgresql: PostgresDatabase, role: str
) -> None:
    def get_connection_params(self: Any) -> dict[str, Any]:
        return {**super(cls, self).get_connection_params(), "password": SECRET}

    cls = subclass(postgresql, get_connection_params=get_connection_params)
    wrapper = cls(postgresql.settings(USER=role), "default")
    with override_settings(DEBUG=True):
        page = report(wrapper.ensure_connection, OperationalError, "text/html")
    assert SECRET not in page


def test_a_failing_session_setup_is_reported_with_its_frames(
    postgresql: PostgresDatabase,
) -> None:
    """Only the driver's own frames are left out, and only of the connect itself."""
    wrapper = postgresql.wrapper(OPTIONS={"assume_role": "nobody_of_this_name"})
    with override_settings(DEBUG=True):
        page = report(wrapper.ensure_connection, OperationalError.__mro__[1], "text/html")
    assert "_configure_role" in page


@pytest.mark.parametrize(
    "changes",
    [
        {"pool": {"max_sise": 1}},
        {"CONN_MAX_AGE": 60},
        {"NAME": ""},
        {"OPTIONS": {"isolation_level": 99}},
        {"TIME_ZONE": "Asia/Karachi", "USE_TZ": False},
    ],
)
def test_wrong_settings_are_reported_without_their_secrets(
    database: Database, changes: dict[str, Any]
) -> None:
    if database.vendor == "sqlite" and "OPTIONS" in changes:
        pytest.skip("SQLite has no such option")
    if database.vendor == "mysql" and {"NAME", "OPTIONS"} & changes.keys():
        pytest.skip("Django's own engine takes these for good, or fails without a message")
    changes = {**changes}
    with override_settings(DEBUG=True, USE_TZ=changes.pop("USE_TZ", True)):
        wrapper = database.wrapper(PASSWORD=SECRET, **changes)
        page = report(wrapper.ensure_connection, ImproperlyConfigured, "text/html")
    assert SECRET not in page
