"""Who gets the page, and who gets nothing from any of its addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from pooling.admin import access
from tests.admin.conftest import DO, LIVE, PAGE, Staff

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESSES = [("get", PAGE), ("get", LIVE), ("post", DO)]
WORDS = ("Connection pools", "leased", "connections in use")


@pytest.mark.parametrize(("method", "name"), ADDRESSES)
def test_an_anonymous_visitor_is_sent_to_the_login(db: None, method: str, name: str) -> None:
    response = getattr(Client(), method)(reverse(name))
    assert response.status_code == 302
    assert response["Location"].startswith(reverse("admin:login"))
    assert response.content == b""
    assert access.COOKIE not in response.cookies


@pytest.mark.parametrize(("method", "name"), ADDRESSES)
@pytest.mark.parametrize(
    "fields", [{}, {"is_staff": False}], ids=["staff without permission", "permission, no staff"]
)
def test_others_get_nothing(staff: Staff, method: str, name: str, fields: dict[str, Any]) -> None:
    client = staff(*(["view", "change"] if fields else []), **fields)
    response = getattr(client, method)(reverse(name))
    assert response.status_code in (302, 403)
    assert not any(word in response.content.decode() for word in WORDS)
    assert access.COOKIE not in response.cookies


def test_who_may_view_sees_the_page_without_its_buttons(staff: Staff) -> None:
    client = staff("view")
    for name in (PAGE, LIVE):
        response = client.get(reverse(name))
        assert response.status_code == 200
        assert 'name="action"' not in response.content.decode()
    data = {"action": "clear", "pool": "default"}
    assert client.post(reverse(DO), data).status_code == 403


def test_who_may_change_sees_the_buttons(staff: Staff) -> None:
    response = staff("change").get(reverse(PAGE))
    assert response.status_code == 200
    assert 'value="suspend"' in response.content.decode()


def test_the_index_of_the_admin_leads_to_the_page(staff: Staff) -> None:
    assert reverse(PAGE) in staff("view").get(reverse("admin:index")).content.decode()
    assert reverse(PAGE) not in staff().get(reverse("admin:index")).content.decode()


@pytest.mark.parametrize(
    ("method", "name", "status"),
    [("post", PAGE, 405), ("post", LIVE, 405), ("get", DO, 405), ("delete", PAGE, 405)],
)
def test_each_address_takes_its_method(staff: Staff, method: str, name: str, status: int) -> None:
    assert getattr(staff("view", "change"), method)(reverse(name)).status_code == status


def test_nothing_happens_without_a_csrf_token(staff: Staff) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff("view", "change").user)  # type: ignore[attr-defined]
    data = {"action": "clear", "pool": "default"}
    assert client.post(reverse(DO), data).status_code == 403


def test_there_is_no_table_and_nothing_to_migrate(db: None) -> None:
    assert "pooling_connectionpool" not in connection.introspection.table_names()
    call_command("makemigrations", "pooling", check=True, dry_run=True, verbosity=0)
    assert apps.get_model("pooling", "ConnectionPool")._meta.default_permissions == (
        "view",
        "change",
    )


# ---- the access cookie, while the user database is unavailable ---------------------------------


@pytest.fixture
def unavailable(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether a query on the user database would wait: not yet."""
    state = [False]
    monkeypatch.setattr("pooling.admin.access.would_wait", lambda wrapper: state[0])
    return state


def test_with_an_access_cookie_the_page_needs_no_query(
    staff: Staff, unavailable: list[bool], django_assert_num_queries: Any
) -> None:
    client = staff("view")
    cookie = client.get(reverse(PAGE)).cookies[access.COOKIE]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Strict")
    assert cookie["path"] == reverse(PAGE)
    unavailable[0] = True
    with django_assert_num_queries(0):
        for name in (PAGE, LIVE):
            response = client.get(reverse(name))
            assert response.status_code == 200
            assert "does not answer you" in response.content.decode()
            assert access.COOKIE not in response.cookies
        assert client.post(reverse(DO), {"action": "clear", "pool": "x"}).status_code == 403


def test_the_access_cookie_is_ignored_while_the_database_answers(
    staff: Staff, unavailable: list[bool]
) -> None:
    client = staff("view")
    client.get(reverse(PAGE))
    client.user.user_permissions.clear()  # type: ignore[attr-defined]
    assert client.get(reverse(PAGE)).status_code == 403


@pytest.mark.parametrize("how", ["other session", "forged", "expired", "logged out", "another key"])
def test_an_invalid_access_cookie_is_refused(
    staff: Staff, unavailable: list[bool], how: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = staff("view", "change")
    client.get(reverse(PAGE))
    if how == "other session":
        other = staff()
        other.cookies[access.COOKIE] = client.cookies[access.COOKIE].value
        client = other
    elif how == "forged":
        client.cookies[access.COOKIE] = client.cookies[access.COOKIE].value + "x"
    elif how == "expired":
        monkeypatch.setattr(access, "COOKIE_LIFETIME", -1)
    elif how == "another key":
        client.cookies[access.COOKIE] = "e30:x:y"
    else:
        del client.cookies[settings.SESSION_COOKIE_NAME]
    unavailable[0] = True
    response = client.get(reverse(PAGE))
    if how in ("forged", "expired", "another key"):  # the database was asked, and knows the user
        assert "does not answer you" not in response.content.decode()
    else:
        assert response.status_code in (302, 403)
