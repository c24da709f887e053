"""The users that the workloads work on, and the SQL of their actions."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any, Literal

from django.apps.registry import Apps
from django.db import models

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import ClassVar, Self

Action = Literal["trivial", "insert", "read", "update", "delete", "first", "own"]

NAMES = ("Ada", "Alan", "Barbara", "Donald", "Edsger", "Frances", "Grace", "Leslie", "Niklaus")
TABLE = "poolbench_user"
COLUMNS = ("username", "first_name", "email", "is_active", "logins")
FIRST = 10

# How many users there are before anything is measured, with the ids from 1: `read` selects those
# below 10.
KNOWN = 20


class BenchUser(models.Model):
    """A user like those of most projects, unknown to this one: no app, no migration, no admin."""

    id = models.BigAutoField(primary_key=True)
    username = models.CharField(max_length=150, unique=True)
    first_name = models.CharField(max_length=150)
    email = models.EmailField()
    is_active = models.BooleanField(default=True)
    logins = models.PositiveIntegerField(default=0)

    objects: ClassVar[models.Manager[Self]] = models.Manager()

    class Meta:
        app_label = "poolbench"
        apps = Apps()
        db_table = TABLE

    def __str__(self) -> str:
        return self.username


def new_users(seed: str) -> Iterator[BenchUser]:
    """Make up users without end; the same seed makes up the same ones."""
    rng = random.Random(seed)
    for number in itertools.count():
        name = rng.choice(NAMES)
        username = f"{name.lower()}-{seed}-{number}"
        yield BenchUser(
            username=username,
            first_name=name,
            email=f"{username}@example.com",
            is_active=rng.random() < 0.9,
        )


def known_users() -> list[BenchUser]:
    """Return the users that every database begins with; they get the ids from 1."""
    return list(itertools.islice(new_users("known"), KNOWN))


def statements_with(*marks: str) -> Mapping[Action, str]:
    """Return the SQL that the ORM would send, with a driver's six placeholders."""
    values = ", ".join(marks[:5])
    columns = ", ".join(COLUMNS)
    changes = ", ".join(f"{name} = {mark}" for name, mark in zip(COLUMNS, marks, strict=False))
    select = f"SELECT id, {columns} FROM {TABLE} WHERE id"  # noqa: S608
    return {
        "trivial": "SELECT 1",
        "insert": f"INSERT INTO {TABLE} ({columns}) VALUES ({values}) RETURNING id",  # noqa: S608
        "read": f"{select} = {marks[0]} LIMIT 21",
        "update": f"UPDATE {TABLE} SET {changes} WHERE id = {marks[5]}",  # noqa: S608
        "delete": f"DELETE FROM {TABLE} WHERE id IN ({marks[0]})",  # noqa: S608
        "first": f"{select} < {marks[0]}",
        "own": "",  # only through Django
    }


def parameters(action: Action, user: BenchUser | None) -> tuple[Any, ...]:
    """Return what an action's statement takes."""
    if user is None:
        return (FIRST,) if action == "first" else ()
    if action in ("read", "delete"):
        return (user.pk,)
    if action == "update":
        user.logins += 1
    values = (user.username, user.first_name, user.email, user.is_active, user.logins)
    return (*values, user.pk) if action == "update" else values
