"""People to act in the tests of the users app."""

from __future__ import annotations

from itertools import count
from typing import Any, Protocol

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from users.models import User

PASSWORD = "correct horse battery"


class MakeUser(Protocol):
    def __call__(self, *permissions: str, **fields: Any) -> User: ...


class LogIn(Protocol):
    def __call__(self, *permissions: str, **fields: Any) -> Client: ...


@pytest.fixture
def make_user(db: None) -> MakeUser:
    """A function that makes a user with permissions of the app: ``make_user("view", "add")``."""
    numbers = count(1)

    def make(*permissions: str, **fields: Any) -> User:
        username = fields.setdefault("username", f"person{next(numbers)}")
        fields.setdefault("email", f"{username}@example.com")
        user = User.objects.create_user(password=PASSWORD, **fields)
        codenames = [f"{permission}_user" for permission in permissions]
        user.user_permissions.set(
            Permission.objects.filter(content_type__app_label="users", codename__in=codenames)
        )
        return user

    return make


@pytest.fixture
def log_in(make_user: MakeUser) -> LogIn:
    """A function like ``make_user`` that returns a client in which that user, ``client.user``, is
    logged in."""

    def make(*permissions: str, **fields: Any) -> Client:
        client = Client()
        client.user = make_user(*permissions, **fields)
        client.force_login(client.user)
        return client

    return make


@pytest.fixture
def superuser(log_in: LogIn) -> Client:
    return log_in(username="root", is_staff=True, is_superuser=True)


def create_data(**changes: str) -> dict[str, str]:
    """What the form to create a user takes."""
    return {
        "username": "ada",
        "first_name": "Ada",
        "last_name": "Lovelace",
        "email": "ada@example.com",
        "password1": PASSWORD,
        "password2": PASSWORD,
    } | changes


def edit_data(user: User, **changes: str) -> dict[str, str]:
    """What a browser sends from the form to edit a user, with changes."""
    data = {
        "username": user.username,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "email": user.email,
    }
    flags = ("is_active", "is_staff", "is_superuser")
    return data | {flag: "on" for flag in flags if getattr(user, flag)} | changes
