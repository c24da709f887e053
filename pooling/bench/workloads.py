"""What is measured: operations on users in a table of the benchmark's own.

Every operation is a request of its own: as Django does at the end of a request with CONN_MAX_AGE=0,
it closes its connection, which gives a pooled one back. That belongs to the measured time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.apps.registry import Apps
from django.db import connections, models

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ClassVar, Self

NAMES = ("Ada", "Alan", "Barbara", "Donald", "Edsger", "Frances", "Grace", "Leslie", "Niklaus")


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
        db_table = "poolbench_user"

    def __str__(self) -> str:
        return self.username


@dataclass(slots=True)
class Client:
    """One thread's part of a turn: the alias it uses and the users it works on.

    Building the users costs time that has nothing to do with connections, so they are built before
    the clock starts; the same seed builds the same users.
    """

    alias: str
    size: int
    seed: str
    users: list[BenchUser] = field(init=False)
    cancelled: bool = False

    def __post_init__(self) -> None:
        draw = random.Random(self.seed)
        self.users = [self._user(draw, number) for number in range(self.size)]

    def _user(self, draw: random.Random, number: int) -> BenchUser:
        name = draw.choice(NAMES)
        username = f"{name.lower()}-{self.seed}-{number}"
        return BenchUser(
            username=username,
            first_name=name,
            email=f"{username}@example.com",
            is_active=draw.random() < 0.9,
        )


@dataclass(frozen=True, slots=True)
class Operation:
    """One measured act; `run` does it for the client's user of the given number."""

    name: str
    run: Callable[[Client, int], None]


@dataclass(frozen=True, slots=True)
class Workload:
    """Operations done one after the other, each for all users; several are summed up in a total."""

    name: str
    operations: tuple[Operation, ...]


def create(client: Client, number: int) -> None:
    client.users[number].save(using=client.alias, force_insert=True)


def read(client: Client, number: int) -> None:
    BenchUser.objects.using(client.alias).get(pk=client.users[number].pk)


def update(client: Client, number: int) -> None:
    user = client.users[number]
    user.logins += 1
    user.save(using=client.alias, force_update=True)


def delete(client: Client, number: int) -> None:
    client.users[number].delete(using=client.alias)


def connect(client: Client, _number: int) -> None:
    with connections[client.alias].cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()


CONNECT = Workload("connect", (Operation("connect", connect),))
CRUD = Workload(
    "crud",
    (
        Operation("create", create),
        Operation("read", read),
        Operation("update", update),
        Operation("delete", delete),
    ),
)
WORKLOADS = (CONNECT, CRUD)
