"""Who gets in where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django.asserts import assertContains, assertRedirects, assertTemplateUsed

from tests.users.conftest import create_data, edit_data
from users.models import User

if TYPE_CHECKING:
    from tests.users.conftest import LogIn, MakeUser

PAGES = {"list": "view", "detail": "view", "create": "add", "edit": "change", "delete": "delete"}
PERMISSIONS = ("view", "add", "change", "delete")


def address(page: str, person: User) -> str:
    args = [person.pk] if page in {"detail", "edit", "delete"} else []
    return reverse(f"users:{page}", args=args)


@pytest.fixture
def person(make_user: MakeUser) -> User:
    return make_user(username="somebody")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("method", ["get", "post"])
def test_anonymous_people_are_sent_to_the_login_page_and_back(
    page: str, method: str, person: User
) -> None:
    url = address(page, person)
    response = getattr(Client(), method)(url)
    assertRedirects(response, f"{reverse('users:login')}?next={url}")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("method", ["get", "post"])
def test_every_other_permission_is_not_enough(
    page: str, method: str, person: User, log_in: LogIn
) -> None:
    client = log_in(*(name for name in PERMISSIONS if name != PAGES[page]))
    response = getattr(client, method)(address(page, person))
    assertContains(response, "You may not", status_code=403)
    assertTemplateUsed(response, "403.html")
    assertContains(response, client.user.username, status_code=403)


@pytest.mark.parametrize("page", PAGES)
def test_the_one_permission_is_enough(page: str, person: User, log_in: LogIn) -> None:
    response = log_in(PAGES[page]).get(address(page, person))
    assert response.status_code == 200


def test_refused_posts_change_nothing(person: User, log_in: LogIn) -> None:
    client = log_in("view")
    client.post(address("create", person), create_data())
    client.post(address("edit", person), edit_data(person, username="renamed"))
    client.post(address("delete", person))
    assert set(User.objects.values_list("username", flat=True)) == {
        "somebody",
        client.user.username,
    }


@pytest.mark.parametrize(
    ("page", "method"),
    [
        *((page, method) for page in PAGES for method in ("put", "patch", "delete")),
        ("list", "post"),
        ("detail", "post"),
    ],
)
def test_other_methods_are_refused_even_for_superusers(
    page: str, method: str, person: User, superuser: Client
) -> None:
    response = getattr(superuser, method)(address(page, person))
    assert response.status_code == 405
    assert User.objects.filter(pk=person.pk).exists()


@pytest.mark.parametrize("page", ["detail", "edit", "delete"])
@pytest.mark.parametrize("pk", [4_000_000_000, 10**30])
def test_people_who_do_not_exist_are_not_found(page: str, pk: int, superuser: Client) -> None:
    response = superuser.get(reverse(f"users:{page}", args=[pk]))
    assertContains(response, "Page not found", status_code=404)


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_not_kept_by_caches(page: str, person: User, superuser: Client) -> None:
    response = superuser.get(address(page, person))
    assert "no-store" in response["Cache-Control"]


def test_links_are_offered_only_to_those_who_may_follow_them(person: User, log_in: LogIn) -> None:
    detail = address("detail", person)
    reader, editor, remover = log_in("view"), log_in("view", "change"), log_in("view", "delete")
    edit, delete = f'href="{address("edit", person)}"', f'href="{address("delete", person)}"'
    for client, sees_edit, sees_delete in (
        (reader, False, False),
        (editor, True, False),
        (remover, False, True),
    ):
        html = client.get(detail).content.decode()
        assert (edit in html, delete in html) == (sees_edit, sees_delete)
    create = f'href="{reverse("users:create")}"'
    assert create not in reader.get(reverse("users:list")).content.decode()
    assert create in log_in("view", "add").get(reverse("users:list")).content.decode()


def test_the_root_leads_to_what_one_may_see(log_in: LogIn) -> None:
    for client, page in (
        (Client(), "users:login"),
        (log_in("view"), "users:list"),
        (log_in(), "users:profile"),
    ):
        assert client.get("/", follow=True).request["PATH_INFO"] == reverse(page)


def test_the_link_to_the_admin_is_for_staff(log_in: LogIn) -> None:
    link = f'href="{reverse("admin:index")}"'
    assert link not in log_in("view").get(reverse("users:list")).content.decode()
    staff = log_in("view", is_staff=True)
    assert link in staff.get(reverse("users:list")).content.decode()
