"""The statements of the workloads, the same through Django's ORM and below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from .users import TABLE, BenchUser, Fields, Row

if TYPE_CHECKING:
    from collections.abc import Mapping

Action = Literal["trivial", "insert", "read", "update", "delete", "first"]

COLUMNS = ("username", "first_name", "email", "is_active", "logins")
FIRST = 10


class Statements(Protocol):
    """The actions of the workloads; `perform` may return something to be awaited."""

    def make_user(self, fields: Fields, pk: int | None = None) -> Any:
        """Return a user in the form that `perform` takes. Not measured."""
        ...

    def perform(self, action: Action, connection: Any, user: Any) -> Any:
        """Do one action; `trivial` and `first` take no user, and `insert` sets the user's `pk`."""
        ...


class OrmStatements:
    """Through the ORM; the connection is Django's wrapper."""

    def make_user(self, fields: Fields, pk: int | None = None) -> BenchUser:
        return BenchUser(**fields, id=pk)

    def perform(self, action: Action, connection: Any, user: Any) -> None:
        getattr(self, f"_{action}")(connection, user)

    def _trivial(self, connection: Any, _user: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()

    def _insert(self, connection: Any, user: BenchUser) -> None:
        user.save(using=connection.alias, force_insert=True)

    def _read(self, connection: Any, user: BenchUser) -> None:
        BenchUser.objects.using(connection.alias).get(pk=user.pk)

    def _update(self, connection: Any, user: BenchUser) -> None:
        user.logins += 1
        user.save(using=connection.alias, force_update=True)

    def _delete(self, connection: Any, user: BenchUser) -> None:
        user.delete(using=connection.alias)

    def _first(self, connection: Any, _user: object) -> None:
        list(BenchUser.objects.using(connection.alias).filter(pk__lt=FIRST))


def statements_with(*marks: str) -> Mapping[Action, str]:
    """Return the SQL that the ORM would send, with a driver's six placeholders."""
    values = ", ".join(marks[:5])
    columns = ", ".join(COLUMNS)
    changes = ", ".join(f"{name} = {mark}" for name, mark in zip(COLUMNS, marks, strict=False))
    everything = f"id, {columns}"
    return {
        "trivial": "SELECT 1",
        "insert": f"INSERT INTO {TABLE} ({columns}) VALUES ({values}) RETURNING id",  # noqa: S608
        "read": f"SELECT {everything} FROM {TABLE} WHERE id = {marks[0]} LIMIT 21",  # noqa: S608
        "update": f"UPDATE {TABLE} SET {changes} WHERE id = {marks[5]}",  # noqa: S608
        "delete": f"DELETE FROM {TABLE} WHERE id IN ({marks[0]})",  # noqa: S608
        "first": f"SELECT {everything} FROM {TABLE} WHERE id < {marks[0]}",  # noqa: S608
    }


def parameters(action: Action, user: Row | None) -> tuple[Any, ...]:
    """Return what an action's statement takes."""
    if action == "first":
        return (FIRST,)
    if user is None:
        return ()
    if action == "update":
        user.logins += 1
    values = (user.username, user.first_name, user.email, user.is_active, user.logins)
    if action == "insert":
        return values
    return (*values, user.pk) if action == "update" else (user.pk,)


class RowStatements:
    """The base of statements without an ORM."""

    def make_user(self, fields: Fields, pk: int | None = None) -> Row:
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
        values = parameters(action, user)
        if action in ("update", "delete"):
            await connection.execute(self._sql[action], *values)
            return
        rows = await connection.fetch(self._sql[action], *values)
        if action == "insert" and user is not None:
            [[user.pk]] = rows
