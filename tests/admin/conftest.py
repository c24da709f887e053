"""Staff with and without the permissions, and a pool beside the one that knows them."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from pooling import fleet
from pooling.admin.revocation import REVOCATIONS
from tests.support.databases import PostgresDatabase
from users.models import User

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import DatabaseSettings

PASSWORD = "correct horse battery"
PAGE, LIVE, DO = (
    "admin:pooling_connectionpool_changelist",
    "admin:pooling_connectionpool_live",
    "admin:pooling_connectionpool_do",
)


@pytest.fixture(autouse=True)
def _no_revocations() -> None:
    """Other tests have ended sessions of users whose primary keys are used again."""
    REVOCATIONS._entries.clear()


class Staff(Protocol):
    def __call__(self, *permissions: str, **fields: Any) -> Client: ...


def make_user(*permissions: str, **fields: Any) -> User:
    """Make somebody with permissions for the pools: `make_user("view", is_staff=True)`."""
    user = User.objects.create_user(password=PASSWORD, **fields)
    codenames = [f"{permission}_connectionpool" for permission in permissions]
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="pooling", codename__in=codenames)
    )
    return user


@pytest.fixture
def staff(db: None) -> Staff:
    """A function that logs in a member of the staff: `staff("view", "change")`."""
    numbers = count(1)

    def log_in(*permissions: str, **fields: Any) -> Client:
        name = f"staff{next(numbers)}"
        fields = {"username": name, "email": f"{name}@example.com", "is_staff": True, **fields}
        client = Client()
        client.user = make_user(*permissions, **fields)
        client.force_login(client.user)
        return client

    return log_in


@pytest.fixture
def reports(database_settings: DatabaseSettings, postgresql_url: str) -> Iterator[PostgresDatabase]:
    """A PostgreSQL database with pools of its own, which knows no users."""
    database = PostgresDatabase(database_settings("pooling.backends.postgresql"), postgresql_url)
    yield database
    database.close()


def text(client: Client, **query: str) -> str:
    """Return the page."""
    response = client.get(reverse(PAGE), query)
    assert response.status_code == 200
    return response.content.decode()


def id_of(name: str) -> str:
    """Return the id of this process's pool of a name, by which the page's forms address it."""
    return next((each["id"] for each in fleet.snapshot()["pools"] if each["name"] == name), name)
