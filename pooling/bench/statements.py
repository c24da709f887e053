"""The statements of the workloads, the same through Django's ORM and below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from .users import TABLE, BenchUser, Row

if TYPE_CHECKING:
    from collections.abc import Mapping

Action = Literal["trivial", "insert", "read", "update", "delete", "first"]

COLUMNS = ("username", "first_name", "email", "is_active", "logins")
FIRST = 10


class Statements(Protocol):
    """The actions of the workloads; `perform` may return something to be awaited."""

    def make_user(self, fields: dict[str, Any], pk: int | None = None) -> Any:
        """Return a user in the form that `perform` takes. Not measured."""

    def perform(self, action: Action, connection: Any, user: Any) -> Any:
        """Do one action; `trivial` and `first` take no user, and `insert` sets the user's `pk`."""


class OrmStatements:
    """Through the ORM; the connection is Django's wrapper."""

    def make_user(self, fields: dict[str, Any], pk: int | None = None) -> BenchUser:
        return BenchUser(**fields, id=pk)

    def perform(self, action: Action, connection: Any, user: Any) -> None:
        alias = connection.alias
        if action == "trivial":
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchone()
        elif action == "insert":
            user.save(using=alias, force_insert=True)
        elif action == "read":
            BenchUser.objects.using(alias).get(pk=user.pk)
        elif action == "update":
            user.logins += 1
            user.save(using=alias, force_update=True)
        elif action == "delete":
            user.delete(using=alias)
        else:
            list(BenchUser.objects.using(alias).filter(pk__lt=FIRST))


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
    }


def parameters(action: Action, user: Row | None) -> tuple[Any, ...]:
    """Return what an action's statement takes."""
    if user is None:
        return (FIRST,) if action == "first" else ()
    if action in ("read", "delete"):
        return (user.pk,)
    if action == "update":
        user.logins += 1
    values = (user.username, user.first_name, user.email, user.is_active, user.logins)
    return (*values, user.pk) if action == "update" else values


class RowStatements:
    """The base of statements without an ORM."""

    def make_user(self, fields: dict[str, Any], pk: int | None = None) -> Row:
        return Row(**fields, pk=pk)


class SqlStatements(RowStatements):
    """On a cursor of PEP 249, in autocommit, as Django does it."""

    def __init__(self, mark: str) -> None:
        self._sql = statements_with(*[mark] * 6)

    def perform(self, action: Action, connection: Any, user: Row | None) -> None:
        cursor = connection.cursor()
        try:
            cursor.execute(self._sql[action], parameters(action, user))
            if action in ("trivial", "read", "first"):
                cursor.fetchall()
            elif action == "insert" and user is not None:
                [[user.pk]] = cursor.fetchall()
        finally:
            cursor.close()


class AsyncpgStatements(RowStatements):
    """On a connection of asyncpg."""

    def __init__(self) -> None:
        self._sql = statements_with(*(f"${number}" for number in range(1, 7)))

    async def perform(self, action: Action, connection: Any, user: Row | None) -> None:
        run = connection.execute if action in ("update", "delete") else connection.fetch
        rows = await run(self._sql[action], *parameters(action, user))
        if action == "insert" and user is not None:
            [[user.pk]] = rows
