"""Creating and editing."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

import pytest
from django.urls import reverse
from pytest_django.asserts import assertContains, assertRedirects

from tests.users.conftest import PASSWORD, create_data, edit_data
from tests.users.html import Page
from users.models import User

if TYPE_CHECKING:
    from django.test import Client

    from tests.users.conftest import LogIn, MakeUser

CREATE = reverse("users:create")


@pytest.fixture
def clerk(log_in: LogIn) -> Client:
    return log_in("view", "add", "change", username="clerk")


def edit_url(person: User) -> str:
    return reverse("users:edit", args=[person.pk])


def test_creating_stores_the_person_and_shows_them(clerk: Client) -> None:
    response = clerk.post(CREATE, create_data(email="Ada@Example.COM"), follow=True)
    ada = User.objects.get(username="ada")
    assertRedirects(response, ada.get_absolute_url())
    assertContains(response, "Ada Lovelace was created.")
    assert ada.check_password(PASSWORD)
    assert ada.email == "ada@example.com"
    assert (ada.is_active, ada.is_staff, ada.is_superuser) == (True, False, False)


def test_editing_stores_the_changes_and_shows_them(clerk: Client, make_user: MakeUser) -> None:
    person = make_user()
    data = edit_data(person, first_name="Grace", last_name="Hopper", email="grace@example.com")
    response = clerk.post(edit_url(person), data, follow=True)
    assertRedirects(response, person.get_absolute_url())
    assertContains(response, "Grace Hopper was changed.")
    person.refresh_from_db()
    assert (person.first_name, person.email) == ("Grace", "grace@example.com")
    assert person.check_password(PASSWORD)


def test_those_who_may_not_look_get_the_form_again(log_in: LogIn, make_user: MakeUser) -> None:
    response = log_in("add").post(CREATE, create_data(), follow=True)
    assertRedirects(response, CREATE)
    assertContains(response, "Ada Lovelace was created.")
    person = make_user()
    response = log_in("change").post(edit_url(person), edit_data(person), follow=True)
    assertRedirects(response, edit_url(person))


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"username": ""}, "username", "This field is required."),
        ({"username": "two words"}, "username", "Enter a valid username."),
        ({"username": "CLERK"}, "username", "A user with that username already exists."),
        ({"username": "x" * 151}, "username", "at most 150 characters"),
        ({"email": ""}, "email", "This field is required."),
        ({"email": "nonsense"}, "email", "Enter a valid email address."),
        ({"email": "Clerk@EXAMPLE.com"}, "email", "A user with that email address already exists."),
        ({"first_name": "x" * 151}, "first_name", "at most 150 characters"),
        ({"password1": ""}, "password1", "This field is required."),
        ({"password2": "different"}, "password2", "The two password fields didn"),
    ],
)
def test_a_refused_form_keeps_the_input_and_says_why_beside_the_field(
    clerk: Client, changes: dict[str, str], field: str, message: str
) -> None:
    data = create_data(**changes)
    response = clerk.post(CREATE, data)
    assert response.status_code == 200
    assert User.objects.count() == 1
    assert any(message in error for error in response.context["form"].errors[field])
    page = Page(response.content.decode())
    assert page.problems == []
    (control,) = (attrs for attrs in page.all("input") if attrs.get("name") == field)
    assert control["aria-invalid"] == "true"
    assert f"id_{field}_error" in control["aria-describedby"].split()
    assert f"#id_{field}" in page.attribute("href")
    assert "alert" in page.attribute("role")
    for attrs in page.all("input"):
        name = attrs.get("name")
        if attrs.get("type") in {"text", "email"}:
            assert attrs.get("value", "") == data[name]
        if attrs.get("type") == "password":
            assert "value" not in attrs


def test_weak_passwords_are_refused(clerk: Client, settings: pytest.FixtureRequest) -> None:
    settings.AUTH_PASSWORD_VALIDATORS = [
        {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"}
    ]
    response = clerk.post(CREATE, create_data(password1="abc", password2="abc"))
    assertContains(response, "This password is too short.")


def test_saving_without_a_change_is_no_conflict_with_oneself(
    clerk: Client, make_user: MakeUser
) -> None:
    person = make_user(username="Mixed")
    response = clerk.post(edit_url(person), edit_data(person, username="mixed"))
    assertRedirects(response, person.get_absolute_url())


def test_the_heading_names_the_person_as_stored(clerk: Client, make_user: MakeUser) -> None:
    person = make_user(first_name="Grace", last_name="Hopper")
    response = clerk.post(edit_url(person), edit_data(person, first_name="Eve", email=""))
    assertContains(response, "<h1>Edit Grace Hopper</h1>")
    assertContains(response, 'value="Eve"')


def test_names_are_shown_as_text_never_as_markup(clerk: Client, make_user: MakeUser) -> None:
    person = make_user(first_name="<script>alert(1)</script>", last_name='"><img src=x>')
    for url in (reverse("users:list"), person.get_absolute_url(), edit_url(person)):
        html = clerk.get(url).content.decode()
        assert "<script" not in html
        assert "<img src=x" not in html


@pytest.mark.parametrize("page", ["create", "edit"])
def test_losing_a_race_for_a_name_is_an_error_in_the_form(
    clerk: Client, make_user: MakeUser, page: str
) -> None:
    person, rival = make_user(), make_user(username="rival")
    url, data = {
        "create": (CREATE, create_data(username=rival.username)),
        "edit": (edit_url(person), edit_data(person, username=rival.username)),
    }[page]
    # As if the rival were stored after the form has looked and before it writes.
    with (
        mock.patch("users.forms.AccountForm.clean_username", lambda form: form.data["username"]),
        mock.patch("users.models.User.validate_unique"),
    ):
        response = clerk.post(url, data)
    assertContains(response, "This username or email address has just been taken.")
    assert User.objects.filter(username=rival.username).get() == rival
    person.refresh_from_db()
    assert person.username != rival.username
