"""The users that the workloads work on, in the benchmark's own table."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.apps.registry import Apps
from django.db import models

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar, Self

NAMES = ("Ada", "Alan", "Barbara", "Donald", "Edsger", "Frances", "Grace", "Leslie", "Niklaus")
TABLE = "poolbench_user"

# How many users there are before anything is measured, with the ids from 1: `read` selects those
# below 10, `mixed` reads and updates all of them.
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


@dataclass(slots=True)
class Row:
    """A user without an ORM."""

    username: str
    first_name: str
    email: str
    is_active: bool
    logins: int
    pk: int | None = None


def new_users(seed: str) -> Iterator[dict[str, Any]]:
    """Make up users without end; the same seed makes up the same ones."""
    rng = random.Random(seed)
    for number in itertools.count():
        name = rng.choice(NAMES)
        username = f"{name.lower()}-{seed}-{number}"
        yield {
            "username": username,
            "first_name": name,
            "email": f"{username}@example.com",
            "is_active": rng.random() < 0.9,
            "logins": 0,
        }


def known_users() -> list[dict[str, Any]]:
    """Return the users that every database begins with, the one with id 1 first."""
    return list(itertools.islice(new_users("known"), KNOWN))
