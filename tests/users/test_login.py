from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import get_user
from django.test import Client
from django.urls import reverse
from pytest_django.asserts import assertContains, assertRedirects

from tests.users.conftest import PASSWORD

if TYPE_CHECKING:
    from tests.users.conftest import LogIn, MakeUser

LOGIN = reverse("users:login")
LOGOUT = reverse("users:logout")


def test_logging_in_leads_to_where_one_wanted_to_go(make_user: MakeUser) -> None:
    person = make_user("add")
    target = reverse("users:create")
    client = Client()
    page = client.get(target, follow=True)
    assertContains(page, f'name="next" value="{target}"')
    response = client.post(
        LOGIN, {"username": person.username, "password": PASSWORD, "next": target}
    )
    assertRedirects(response, target)


def test_logging_in_leads_to_the_list_otherwise(make_user: MakeUser) -> None:
    person = make_user("view")
    response = Client().post(LOGIN, {"username": person.username, "password": PASSWORD})
    assertRedirects(response, reverse("users:list"), fetch_redirect_response=False)


def test_logging_in_never_leads_to_another_site(make_user: MakeUser) -> None:
    data = {"username": make_user().username, "password": PASSWORD, "next": "https://evil.test/"}
    response = Client().post(LOGIN, data)
    assertRedirects(response, reverse("users:profile"), fetch_redirect_response=False)


def test_a_wrong_password_keeps_the_username_and_says_what_is_wrong(make_user: MakeUser) -> None:
    person = make_user()
    response = Client().post(LOGIN, {"username": person.username, "password": "wrong"})
    assertContains(response, "Please enter a correct username and password")
    assertContains(response, f'value="{person.username}"')
    assertContains(response, 'role="alert"')


def test_inactive_people_cannot_log_in(make_user: MakeUser) -> None:
    person = make_user(is_active=False)
    client = Client()
    client.post(LOGIN, {"username": person.username, "password": PASSWORD})
    assert get_user(client).is_anonymous


def test_those_who_are_logged_in_skip_the_login_page(log_in: LogIn) -> None:
    response = log_in("view").get(LOGIN)
    assertRedirects(response, reverse("users:list"))


def test_logging_out_takes_a_post_and_says_that_it_worked(log_in: LogIn) -> None:
    client = log_in("view")
    assert client.get(LOGOUT).status_code == 405
    assert get_user(client).is_authenticated
    response = client.post(LOGOUT, follow=True)
    assertRedirects(response, LOGIN)
    assertContains(response, "You are logged out.")
    assert get_user(client).is_anonymous


def test_the_header_says_who_is_logged_in_and_offers_to_log_out(log_in: LogIn) -> None:
    client = log_in("view", first_name="Grace", last_name="Hopper")
    response = client.get(reverse("users:list"))
    assertContains(response, '<span class="visually-hidden">Your account: </span>Grace Hopper')
    assertContains(response, f'<form method="post" action="{LOGOUT}">')


def test_forms_are_protected_against_forgery(make_user: MakeUser) -> None:
    client = Client(enforce_csrf_checks=True)
    response = client.post(LOGIN, {"username": make_user().username, "password": PASSWORD})
    assertContains(response, "This form has expired", status_code=403)
