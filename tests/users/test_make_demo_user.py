from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command

from users.models import User

if TYPE_CHECKING:
    from tests.users.conftest import MakeUser

pytestmark = pytest.mark.django_db


def make(**options: str) -> str:
    stdout = io.StringIO()
    call_command("make_demo_user", stdout=stdout, **options)
    return stdout.getvalue()


def password_in(text: str) -> str | None:
    found = re.search("^Password: (.+)$", text, re.MULTILINE)
    return found and found[1]


def test_it_makes_a_superuser_and_shows_how_to_log_in(caplog: pytest.LogCaptureFixture) -> None:
    text = make(url="http://127.0.0.1:9000/")
    assert "http://127.0.0.1:9000/" in text
    user = authenticate(username="demo", password=password_in(text))
    assert user.is_superuser
    assert user.is_staff
    assert password_in(text) not in caplog.text


def test_the_password_is_random() -> None:
    first = password_in(make())
    User.objects.all().delete()
    assert first != password_in(make())
    assert len(first) >= 16


def test_running_it_again_changes_nothing_and_says_how_to_reset_the_password() -> None:
    password = password_in(make())
    text = make()
    assert password_in(text) is None
    assert "changepassword demo" in text
    assert authenticate(username="demo", password=password)


def test_an_address_that_is_taken_is_an_error(make_user: MakeUser) -> None:
    make_user(email="demo@example.com")
    with pytest.raises(CommandError, match=r"demo@example\.com"):
        make()
