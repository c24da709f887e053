"""Searching and sorting for the list of users."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlencode

from django.db.models import Q, QuerySet
from django.http import QueryDict

from users.models import User

SEARCHED_FIELDS = ("username", "first_name", "last_name", "email")
MAX_SEARCH_LENGTH = 100
MAX_SEARCH_WORDS = 6  # each costs a comparison per searched field and row


def clean_search(text: str) -> str:
    """Return the normalised search text; PostgreSQL rejects NUL characters."""
    return " ".join(text.replace("\x00", "")[:MAX_SEARCH_LENGTH].split()[:MAX_SEARCH_WORDS])


def search(people: QuerySet[User], text: str) -> QuerySet[User]:
    """Filter users for which every word of `text` occurs in one of the fields."""
    for word in text.split():
        anywhere = Q()
        for spelling in _spellings(word):
            for field in SEARCHED_FIELDS:
                anywhere |= Q(**{f"{field}__icontains": spelling})
        people = people.filter(anywhere)
    return people


def _spellings(word: str) -> set[str]:
    """Return the spellings to search for: SQLite ignores the case of ASCII letters only."""
    return {word} if word.isascii() else {word, word.lower(), word.upper(), word.title()}


STATUSES = {
    "active": ("Active", Q(is_active=True)),
    "inactive": ("Inactive", Q(is_active=False)),
    "staff": ("Staff", Q(is_staff=True)),
    "superuser": ("Superusers", Q(is_superuser=True)),
}
"""Filters of the list, by the value of `status` in the query string."""

LIST_PARAMETERS = ("q", "sort", "status", "page")


def list_query(parameters: QueryDict) -> str:
    """Return the part of a query string that says how the list was, with "?", or nothing.

    The pages of a user carry it, so that they lead back to the list as it was.
    """
    kept = {name: parameters[name] for name in LIST_PARAMETERS if parameters.get(name)}
    return f"?{urlencode(kept)}" if kept else ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the list. `fields` are a total order, so that pages do not overlap."""

    key: str
    label: str
    fields: tuple[str, ...]


COLUMNS = (
    Column("name", "Name", ("last_name", "first_name", "pk")),
    Column("username", "Username", ("username",)),
    Column("email", "Email", ("email",)),
    Column("joined", "Joined", ("date_joined", "pk")),
)


@dataclass(frozen=True, slots=True)
class Sort:
    """Sort order of the list, `email` or `-email` in the query string."""

    column: Column = COLUMNS[0]
    descending: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the order named by `text`, the default order for unknown names."""
        for column in COLUMNS:
            if text.removeprefix("-") == column.key:
                return cls(column, descending=text.startswith("-"))
        return cls()

    def __str__(self) -> str:
        return f"{'-' * self.descending}{self.column.key}"

    @property
    def order_by(self) -> tuple[str, ...]:
        return tuple(f"{'-' * self.descending}{field}" for field in self.column.fields)

    def headers(self) -> list[dict[str, str]]:
        """Return label, sort parameter and `aria-sort` of each column's header."""
        return [self._header(column) for column in COLUMNS]

    def _header(self, column: Column) -> dict[str, str]:
        current = column is self.column
        return {
            "label": column.label,
            "sort": str(Sort(column, descending=current and not self.descending)),
            "aria_sort": ("descending" if self.descending else "ascending") if current else "",
        }
