from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, transaction

from users.models import User

if TYPE_CHECKING:
    from tests.users.conftest import MakeUser


def test_addresses_are_kept_and_looked_up_in_lower_case(make_user: MakeUser) -> None:
    person = make_user(email="Ada.Lovelace@Example.COM")
    person.refresh_from_db()
    assert person.email == "ada.lovelace@example.com"
    assert User.objects.get(email="ADA.LOVELACE@example.com") == person


def test_addresses_differ_by_more_than_case(make_user: MakeUser) -> None:
    make_user(email="ada@example.com")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_user(email="ADA@example.com")
    with pytest.raises(ValidationError, match="email address already exists"):
        User(username="new", password="x", email="ADA@EXAMPLE.COM").full_clean()


def test_an_address_is_required() -> None:
    with pytest.raises(ValidationError) as raised:
        User(username="new", password="x").clean_fields()
    assert set(raised.value.message_dict) == {"email"}


@pytest.mark.parametrize(
    ("fields", "name", "initials"),
    [
        ({"first_name": "Ada", "last_name": "Lovelace"}, "Ada Lovelace", "AL"),
        ({"first_name": "Ada"}, "Ada", "A"),
        ({"last_name": "Lovelace"}, "Lovelace", "L"),
        ({}, "ada", "A"),
    ],
)
def test_everybody_has_a_name_to_show(fields: dict[str, str], name: str, initials: str) -> None:
    person = User(username="ada", **fields)
    assert (person.display_name, person.initials) == (name, initials)


@pytest.mark.django_db
def test_the_migrations_are_up_to_date() -> None:
    call_command("makemigrations", "users", check=True, dry_run=True, verbosity=0)
