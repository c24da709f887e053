from __future__ import annotations

import io
import re
from itertools import count
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command
from django.db.models import QuerySet

from users import seeding
from users.management import progress as progress_module
from users.management.commands import seed_users
from users.models import User
from users.names import FIRST_NAMES, LAST_NAMES

pytestmark = pytest.mark.django_db

FIELDS = ("username", "first_name", "last_name", "email", "is_active")


def seed(*args: Any, **options: Any) -> str:
    stdout = io.StringIO()
    call_command("seed_users", *args, stdout=stdout, **options)
    return stdout.getvalue()


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seed_users, "BATCH_SIZE", 10)


def test_it_adds_as_many_valid_users_as_asked_for() -> None:
    assert "Added 120 users." in seed("120")
    assert User.objects.count() == 120
    for person in User.objects.all()[:20]:
        person.full_clean()
        assert re.fullmatch(r"[a-z._]+\d+", person.username)
        assert person.email.rpartition("@")[2] in seeding.DOMAINS


def test_nobody_can_log_in_as_one_of_them() -> None:
    seed("5")
    assert not any(person.has_usable_password() for person in User.objects.all())


def test_a_password_is_for_all_of_them_and_hashed_once() -> None:
    with mock.patch.object(
        seed_users, "make_password", side_effect=seed_users.make_password
    ) as hashing:
        seed("15", password="open sesame")
    assert hashing.call_count == 1
    for person in User.objects.filter(is_active=True)[:3]:
        assert authenticate(username=person.username, password="open sesame") == person


def test_none_of_them_has_any_power() -> None:
    seed("50")
    assert not User.objects.filter(is_staff=True).exists()
    assert not User.objects.filter(is_superuser=True).exists()


def test_running_it_again_adds_others() -> None:
    for _ in range(3):
        seed("40", seed=7)
    assert User.objects.count() == 120


def test_a_seed_gives_the_same_people() -> None:
    seed("30", seed=7)
    first = list(User.objects.order_by("pk").values_list(*FIELDS))
    User.objects.all().delete()
    seed("30", seed=7)
    assert list(User.objects.order_by("pk").values_list(*FIELDS)) == first
    User.objects.all().delete()
    seed("30", seed=8)
    assert list(User.objects.order_by("pk").values_list(*FIELDS)) != first


def test_people_who_are_there_already_are_stepped_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def candidates(*_: Any) -> Any:
        for number in count():
            yield User(username=f"person{number}", email=f"person{number}@example.com")

    monkeypatch.setattr(seeding, "people", candidates)
    User.objects.create(username="person3", email="other@example.com")
    User.objects.create(username="other", email="PERSON8@example.com")
    seed("30")
    seeded = set(User.objects.values_list("username", flat=True)) - {"person3", "other"}
    assert seeded == {f"person{number}" for number in range(32)} - {"person3", "person8"}


@pytest.mark.parametrize("number", ["0", "-3", "many", "1.5", ""])
def test_a_bad_number_is_refused(number: str) -> None:
    with pytest.raises(CommandError, match="N must be a whole number, 1 or more"):
        seed("--", number)
    assert not User.objects.exists()


def test_an_empty_password_is_refused() -> None:
    with pytest.raises(CommandError, match="password is empty"):
        seed("1", password="")


def test_it_reports_progress_in_plain_lines_where_there_is_no_terminal(small_batches: None) -> None:
    lines = seed("35").splitlines()
    assert lines == [
        "Adding users: 10 of 35",
        "Adding users: 20 of 35",
        "Adding users: 30 of 35",
        "Adding users: 35 of 35",
        "Added 35 users.",
    ]


def test_it_prints_about_ten_lines_however_many_users_it_adds() -> None:
    stdout = io.StringIO()
    with mock.patch.object(stdout, "write", wraps=stdout.write) as write:
        advance = progress_module._plain_lines(stdout, "Adding", 1_000)
        for _ in range(1_000):
            advance(1)
    assert write.call_count == 10


def test_it_can_be_silent() -> None:
    assert seed("3", verbosity=0) == ""


@pytest.mark.parametrize("rich_is_installed", [True, False])
def test_a_terminal_gets_a_bar_if_rich_is_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rich_is_installed: bool
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    if not rich_is_installed:
        monkeypatch.setattr(progress_module, "rich_progress", None)
    with progress_module.progress(terminal, "Adding users", 3) as advance:
        advance(3)
    assert ("3/3" in capsys.readouterr().out) is rich_is_installed
    assert ("3 of 3" in terminal.getvalue()) is not rich_is_installed


@pytest.mark.parametrize(("after_the_write", "made"), [(False, 20), (True, 30)])
def test_ctrl_c_leaves_whole_batches_and_says_how_many(
    small_batches: None, monkeypatch: pytest.MonkeyPatch, after_the_write: bool, made: int
) -> None:
    bulk_create, calls = QuerySet.bulk_create, []

    def interrupted(self: Any, people: list[User], *args: Any, **kwargs: Any) -> list[User]:
        calls.append(people)
        if len(calls) == 3 and not after_the_write:
            raise KeyboardInterrupt
        created = bulk_create(self, people, *args, **kwargs)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return created

    monkeypatch.setattr(QuerySet, "bulk_create", interrupted)
    with pytest.raises(CommandError, match=f"Interrupted: {made} of 100 users were added") as error:
        seed("100")
    assert error.value.returncode == 130
    assert User.objects.count() == made


def test_the_number_of_queries_grows_with_the_batches_not_with_the_users(
    django_assert_max_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed_users, "BATCH_SIZE", 50)
    with django_assert_max_num_queries(2 * 10):
        seed("100")


def test_running_it_again_with_the_same_seed_does_not_walk_through_those_it_made(
    django_assert_max_num_queries: Any, small_batches: None
) -> None:
    for _ in range(2):
        with django_assert_max_num_queries(1 + 3 * 4):
            seed("30", seed=7)


def test_every_name_can_be_written_in_a_username() -> None:
    for name in (*FIRST_NAMES, *LAST_NAMES):
        assert len(seeding._ascii(name)) >= len(name) - 1
    assert seeding._ascii("Sørensen") == "sorensen"
    assert seeding._ascii("O'Brien") == "obrien"
