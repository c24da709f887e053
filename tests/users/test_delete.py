from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from tests.users.conftest import PASSWORD
from users.models import User

if TYPE_CHECKING:
    from django.test import Client

    from tests.users.conftest import LogIn, MakeUser


def delete_url(person: User) -> str:
    return reverse("users:delete", args=[person.pk])


@pytest.fixture
def remover(log_in: LogIn) -> Client:
    return log_in("view", "delete", username="remover")


def test_looking_at_the_question_deletes_nothing(remover: Client, make_user: MakeUser) -> None:
    person = make_user(first_name="Ada", last_name="Lovelace")
    response = remover.get(delete_url(person))
    assertContains(response, "Delete Ada Lovelace?")
    assert User.objects.filter(pk=person.pk).exists()


def test_answering_it_deletes_and_says_so(remover: Client, make_user: MakeUser) -> None:
    person = make_user(first_name="Ada", last_name="Lovelace")
    response = remover.post(delete_url(person), follow=True)
    assertRedirects(response, reverse("users:list"))
    assertContains(response, "Ada Lovelace was deleted.")
    assert not User.objects.filter(pk=person.pk).exists()


def test_it_says_what_else_will_be_gone(remover: Client, make_user: MakeUser) -> None:
    person = make_user()
    assertContains(remover.get(delete_url(person)), "history has no entries about actions")
    for _ in range(3):
        LogEntry.objects.create(
            user=person,
            content_type=ContentType.objects.get_for_model(User),
            object_id=person.pk,
            object_repr="somebody",
            action_flag=CHANGE,
        )
    assertContains(remover.get(delete_url(person)), "loses the 3 entries")


def test_it_points_to_the_gentler_way_if_one_may_take_it(
    remover: Client, log_in: LogIn, make_user: MakeUser
) -> None:
    person = make_user()
    hint = "make the account inactive"
    assertNotContains(remover.get(delete_url(person)), hint)
    assertContains(log_in("delete", "change").get(delete_url(person)), hint)


@pytest.mark.parametrize("superuser", [True, False])
def test_nobody_deletes_themselves(log_in: LogIn, superuser: bool) -> None:
    client = log_in("view", "delete", is_superuser=superuser)
    for response in (client.get(delete_url(client.user)), client.post(delete_url(client.user))):
        assertContains(response, "You cannot delete yourself.", status_code=403)
    assert User.objects.filter(pk=client.user.pk).exists()
    assertNotContains(client.get(client.user.get_absolute_url()), delete_url(client.user))


def test_the_deleted_are_logged_out(remover: Client, log_in: LogIn) -> None:
    victim = log_in("view")
    remover.post(delete_url(victim.user))
    response = victim.get(reverse("users:list"))
    assertRedirects(response, f"{reverse('users:login')}?next={reverse('users:list')}")
    assert not victim.login(username=victim.user.username, password=PASSWORD)


def test_deleting_twice_is_not_found(remover: Client, make_user: MakeUser) -> None:
    url = delete_url(make_user())
    assert remover.post(url).status_code == 302
    assert remover.post(url).status_code == 404
