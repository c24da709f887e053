"""What all pages have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.template.loader import render_to_string
from django.test import Client
from django.urls import path, reverse

from poolproject.urls import urlpatterns as project_urlpatterns
from tests.users.html import Page

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from tests.users.conftest import MakeUser


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a secret detail")


urlpatterns = [*project_urlpatterns, path("broken/", broken)]


def test_the_pages_are_sound(superuser: Client, make_user: MakeUser) -> None:
    for _ in range(30):
        person = make_user(first_name="Ada", last_name="Lovelace")
    urls = [
        reverse("users:list"),
        reverse("users:list") + "?q=ada&sort=-joined&page=2",
        reverse("users:list") + "?q=nonesuch",
        reverse("users:create"),
        *(reverse(f"users:{name}", args=[person.pk]) for name in ("detail", "edit", "delete")),
        reverse("users:detail", args=[9_999_999]),
    ]
    for url in urls:
        page = Page(superuser.get(url).content.decode())
        assert page.problems == [], url
        assert page.all("html") == [{"lang": "en"}]
        assert ("a", {"class": "skip-link", "href": "#content"}) in page.elements


@pytest.mark.django_db
def test_the_login_page_is_sound() -> None:
    client = Client()
    for response in (client.get(reverse("users:login")), client.post(reverse("users:login"))):
        assert Page(response.content.decode()).problems == []


@pytest.mark.parametrize("code", ["400", "403", "403_csrf", "404", "500"])
def test_error_pages_need_nothing_to_be_rendered(code: str) -> None:
    assert Page(render_to_string(f"{code}.html")).problems == []


@pytest.mark.urls(__name__)
def test_a_crash_shows_a_friendly_page_without_details(superuser: Client) -> None:
    superuser.raise_request_exception = False
    response = superuser.get("/broken/")
    assert response.status_code == 500
    assert "Server error" in response.content.decode()
    assert "a secret detail" not in response.content.decode()


def test_the_checker_finds_problems() -> None:
    page = Page(
        '<html><title></title><main id="a"><h1 id="a" style="x">Hi<p></h1></main>'
        '<a href="#nowhere" onclick="x()"></a><input id="b" aria-describedby="c">'
        '<script>1</script><img src="https://elsewhere.test/x.png">'
    )
    for problem in ("used twice", "inline style", "closes something else", "jump to", "handler"):
        assert any(problem in found for found in page.problems)
    for problem in ("no label", "id 'c'", "inline script", "no alt", "external", "never closed"):
        assert any(problem in found for found in page.problems)
