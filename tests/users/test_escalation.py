"""Nobody gains rights, and nobody touches an account that can do more than their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from django.contrib.auth.models import Group, Permission
from django.db.models import QuerySet
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from tests.users.conftest import create_data, edit_data
from users.models import User
from users.policy import can_manage

if TYPE_CHECKING:
    from django.test import Client

    from tests.users.conftest import LogIn, MakeUser

PRIVILEGES = {"is_staff": "on", "is_superuser": "on", "user_permissions": "1", "groups": "1"}


def edit_url(person: User) -> str:
    return reverse("users:edit", args=[person.pk])


@pytest.fixture
def clerk(log_in: LogIn) -> Client:
    return log_in("view", "add", "change", "delete", username="clerk")


def assert_powerless(person: User) -> None:
    person.refresh_from_db()
    assert not person.is_staff
    assert not person.is_superuser
    assert not person.groups.exists()


class TestHandingOutPowers:
    def test_a_clerk_cannot_create_a_powerful_account(self, clerk: Client) -> None:
        Group.objects.create(pk=1, name="Everything")
        clerk.post(reverse("users:create"), create_data(**PRIVILEGES))
        ada = User.objects.get(username="ada")
        assert_powerless(ada)
        assert not ada.user_permissions.exists()

    @pytest.mark.parametrize("oneself", [True, False])
    def test_a_clerk_cannot_make_anybody_powerful(
        self, clerk: Client, make_user: MakeUser, oneself: bool
    ) -> None:
        Group.objects.create(pk=1, name="Everything")
        person = clerk.user if oneself else make_user()
        before = person.get_all_permissions()
        response = clerk.post(edit_url(person), edit_data(person, **PRIVILEGES))
        assertRedirects(response, person.get_absolute_url())
        assert_powerless(person)
        assert User.objects.get(pk=person.pk).get_all_permissions() == before

    def test_staff_cannot_make_staff_either(self, log_in: LogIn, make_user: MakeUser) -> None:
        person = make_user()
        log_in("change", is_staff=True).post(edit_url(person), edit_data(person, **PRIVILEGES))
        assert_powerless(person)

    def test_the_form_offers_powers_to_superusers_alone(
        self, clerk: Client, superuser: Client, make_user: MakeUser
    ) -> None:
        for url in (reverse("users:create"), edit_url(make_user())):
            for name in ("is_staff", "is_superuser"):
                assertNotContains(clerk.get(url), f'name="{name}"')
                assertContains(superuser.get(url), f'name="{name}"')

    def test_superusers_hand_them_out(self, superuser: Client, make_user: MakeUser) -> None:
        person = make_user()
        superuser.post(edit_url(person), edit_data(person, is_superuser="on"))
        superuser.post(reverse("users:create"), create_data(is_staff="on"))
        person.refresh_from_db()
        assert person.is_superuser
        assert User.objects.get(username="ada").is_staff

    def test_nobody_locks_out_or_disarms_themselves(self, superuser: Client) -> None:
        root = superuser.user
        superuser.post(edit_url(root), {**edit_data(root, first_name="Root"), "is_active": ""})
        data = {key: value for key, value in edit_data(root).items() if not key.startswith("is_")}
        superuser.post(edit_url(root), data)
        root.refresh_from_db()
        assert (root.is_active, root.is_staff, root.is_superuser) == (True, True, True)
        assertContains(superuser.get(edit_url(root)), "You cannot change this for yourself.", 3)


BETTERS = {
    "a superuser": {"is_superuser": True},
    "an inactive superuser": {"is_superuser": True, "is_active": False},
    "staff": {"is_staff": True},
}


class TestManagingOnesBetters:
    @pytest.mark.parametrize("page", ["edit", "delete"])
    @pytest.mark.parametrize("fields", BETTERS.values(), ids=BETTERS.keys())
    def test_is_refused(
        self, clerk: Client, make_user: MakeUser, page: str, fields: dict[str, Any]
    ) -> None:
        boss = make_user(first_name="The", last_name="Boss", **fields)
        url = reverse(f"users:{page}", args=[boss.pk])
        for response in (clerk.get(url), clerk.post(url, edit_data(boss, email="e@example.com"))):
            assertContains(response, "The Boss has rights that you do not have.", status_code=403)
        unchanged = User.objects.get(pk=boss.pk)
        assert (unchanged.email, unchanged.is_active) == (boss.email, boss.is_active)
        page = clerk.get(boss.get_absolute_url()).content.decode()
        assert f"{boss.get_absolute_url()}edit/" not in page
        assert f"{boss.get_absolute_url()}delete/" not in page

    @pytest.mark.parametrize("active", [True, False])
    def test_is_refused_for_single_permissions(
        self, log_in: LogIn, make_user: MakeUser, active: bool
    ) -> None:
        editor = log_in("change")
        remover = make_user("delete", is_active=active)
        assert editor.get(edit_url(remover)).status_code == 403
        assert editor.post(edit_url(remover), edit_data(remover)).status_code == 403

    def test_is_refused_for_permissions_that_come_from_a_group(
        self, log_in: LogIn, make_user: MakeUser
    ) -> None:
        group = Group.objects.create(name="Removers")
        group.permissions.add(Permission.objects.get(codename="delete_user"))
        member = make_user()
        member.groups.add(group)
        assert log_in("change").get(edit_url(member)).status_code == 403
        assert log_in("change", "delete").get(edit_url(member)).status_code == 200

    def test_is_possible_for_superusers(self, superuser: Client, make_user: MakeUser) -> None:
        other = make_user(is_superuser=True)
        superuser.post(edit_url(other), edit_data(other, first_name="Other"))
        other.refresh_from_db()
        assert other.first_name == "Other"


@pytest.mark.parametrize("page", ["edit", "delete"])
def test_the_row_that_is_judged_is_locked_until_it_is_written(
    superuser: Client, make_user: MakeUser, page: str
) -> None:
    """SQLite has no row locks, and needs none: its transactions begin by locking the database."""
    person = make_user()
    url = reverse(f"users:{page}", args=[person.pk])
    with mock.patch.object(
        QuerySet, "select_for_update", autospec=True, side_effect=QuerySet.all
    ) as lock:
        superuser.get(url)
        assert lock.call_count == 0
        superuser.post(url, edit_data(person))
        assert lock.call_count == 1


def test_peers_manage_each_other(make_user: MakeUser) -> None:
    one, two = make_user("change"), make_user("change")
    assert can_manage(one, two)
    assert can_manage(two, one)
    assert can_manage(one, one)


class TestTheAdmin:
    """Django's own lets staff with users.change_user make themselves superusers."""

    @pytest.fixture
    def staff(self, log_in: LogIn) -> Client:
        return log_in("view", "add", "change", "delete", username="staff", is_staff=True)

    def change(self, client: Client, person: User, **changes: str) -> Any:
        data = edit_data(person, **changes) | {
            "date_joined_0": "2026-01-01",
            "date_joined_1": "0:0",
        }
        return client.post(reverse("admin:users_user_change", args=[person.pk]), data)

    @pytest.mark.parametrize("oneself", [True, False])
    def test_staff_cannot_hand_out_powers(
        self, staff: Client, make_user: MakeUser, oneself: bool
    ) -> None:
        person = staff.user if oneself else make_user()
        powers = {"is_superuser": "on", "user_permissions": "1"}
        response = self.change(staff, person, first_name="New", **powers)
        assert response.status_code == 302
        person.refresh_from_db()
        assert person.first_name == "New"
        assert not person.is_superuser
        assert not person.user_permissions.filter(pk=1).exists()

    def test_staff_cannot_change_a_superuser_or_their_password(
        self, staff: Client, make_user: MakeUser
    ) -> None:
        boss = make_user(is_superuser=True)
        assert self.change(staff, boss, email="e@example.com").status_code == 403
        url = reverse("admin:auth_user_password_change", args=[boss.pk])
        new = {"password1": "another-Pass-1", "password2": "another-Pass-1"}
        assert staff.post(url, new | {"usable_password": "true"}).status_code == 403
        before, boss = boss.password, User.objects.get(pk=boss.pk)
        assert boss.password == before

    def test_staff_cannot_delete_a_superuser_one_by_one_or_in_bulk(
        self, staff: Client, make_user: MakeUser
    ) -> None:
        boss = make_user(is_superuser=True)
        url = reverse("admin:users_user_delete", args=[boss.pk])
        assert staff.post(url, {"post": "yes"}).status_code == 403
        bulk = {"action": "delete_selected", "_selected_action": boss.pk, "post": "yes"}
        staff.post(reverse("admin:users_user_changelist"), bulk)
        assert User.objects.filter(pk=boss.pk).exists()

    def test_superusers_cannot_delete_themselves(self, superuser: Client) -> None:
        url = reverse("admin:users_user_delete", args=[superuser.user.pk])
        assert superuser.post(url, {"post": "yes"}).status_code == 403

    def test_new_accounts_need_an_address(self, staff: Client) -> None:
        url = reverse("admin:users_user_add")
        data = {"username": "new", "usable_password": "false"}
        assert "email" in staff.post(url, data).context["adminform"].form.errors
        staff.post(url, data | {"email": "new@example.com", "is_superuser": "on"})
        assert_powerless(User.objects.get(email="new@example.com"))

    def test_superusers_see_every_field(self, superuser: Client, make_user: MakeUser) -> None:
        url = reverse("admin:users_user_change", args=[make_user().pk])
        assertContains(superuser.get(url), 'name="is_superuser"')
        assert superuser.get(reverse("admin:users_user_changelist")).status_code == 200
