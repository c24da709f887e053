"""The own account, which needs no permission, and new passwords."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.test import Client
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from tests.users.conftest import PASSWORD

if TYPE_CHECKING:
    from tests.users.conftest import LogIn, MakeUser

PROFILE, CHANGE = reverse("users:profile"), reverse("users:password")


def test_a_user_without_permissions_logs_in_and_sees_the_own_account(make_user: MakeUser) -> None:
    user = make_user(first_name="Grace")
    client = Client()
    form = {"username": user.username, "password": PASSWORD}
    response = client.post(reverse("users:login"), form)
    assertRedirects(response, PROFILE)
    page = client.get(PROFILE)
    assertContains(page, user.email)
    assertNotContains(page, f'href="{reverse("users:list")}"')


def test_the_own_account_needs_a_login() -> None:
    for page in (PROFILE, CHANGE):
        assertRedirects(Client().get(page), f"{reverse('users:login')}?next={page}")


def test_a_refused_page_leads_to_the_own_account(log_in: LogIn) -> None:
    response = log_in().get(reverse("users:list"))
    assert response.status_code == 403
    assertContains(response, PROFILE, status_code=403)


def test_users_change_their_own_password(log_in: LogIn) -> None:
    client = log_in()
    new = "another-battery-7"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    response = client.post(CHANGE, form, follow=True)
    assertContains(response, "Your password was changed.")
    assertContains(response, client.user.email)  # and stays logged in
    client.user.refresh_from_db()
    assert client.user.check_password(new)


def test_all_errors_of_a_new_password_are_told_at_once(log_in: LogIn, settings: Any) -> None:
    settings.AUTH_PASSWORD_VALIDATORS = [
        {"NAME": f"django.contrib.auth.password_validation.{name}PasswordValidator"}
        for name in ("Common", "Numeric")
    ] + [{"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"}]
    client = log_in()
    form = {"old_password": "wrong", "new_password1": "123", "new_password2": "124"}
    response = client.post(CHANGE, form)
    for words in ("old password", "too short", "too common", "entirely numeric", "match"):
        assertContains(response, words)
    creator = log_in("add")
    form = {"username": "x", "email": "x@example.com", "password1": "123", "password2": "124"}
    response = creator.post(reverse("users:create"), form)
    for words in ("too short", "too common", "entirely numeric", "match"):
        assertContains(response, words)
