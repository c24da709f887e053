"""An access cookie ends with its user session, also while the user database is unavailable."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from django.urls import reverse

from pooling.admin import access
from pooling.admin.revocation import LIFETIME, MAX_ENTRIES, Revocations, _user_name, digest
from tests.admin.conftest import PAGE, PASSWORD, Staff
from tests.fleet.members import file_cache
from tests.support.databases import eventually
from users.models import User

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from django.conf import LazySettings


@pytest.fixture
def unavailable(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether a query on the user database would wait: not yet."""
    state = [False]
    monkeypatch.setattr("pooling.admin.access.would_wait", lambda wrapper: state[0])
    return state


def cookies_of(client: Client) -> dict[str, str]:
    """Open the page and return the session cookie and the access cookie."""
    assert client.get(reverse(PAGE)).status_code == 200
    return {name: client.cookies[name].value for name in ("sessionid", access.COOKIE)}


def page_by(cookies: dict[str, str]) -> Any:
    client = Client()
    for name, value in cookies.items():
        client.cookies[name] = value
    return client.get(reverse(PAGE))


def log_out(client: Client, user: User) -> None:
    assert client.post(reverse("admin:logout")).status_code in (200, 302)


def log_in_as_another(client: Client, user: User) -> None:
    User.objects.create_user("another", "another@example.com", PASSWORD, is_staff=True)
    data = {"username": "another", "password": PASSWORD}
    assert client.post(reverse("admin:login"), data).status_code == 302


def change_password(client: Client, user: User) -> None:
    user.set_password("another one")
    user.save()


def change_password_field(client: Client, user: User) -> None:
    user.set_password("another one")
    user.save(update_fields=["password"])


def disable_password(client: Client, user: User) -> None:
    user.set_unusable_password()
    user.save()


def deactivate(client: Client, user: User) -> None:
    user.is_active = False
    user.save()


def delete(client: Client, user: User) -> None:
    user.delete()


@pytest.mark.parametrize(
    "end",
    [
        log_out,
        log_in_as_another,
        change_password,
        change_password_field,
        disable_password,
        deactivate,
        delete,
    ],
)
def test_the_cookie_of_an_ended_session_does_not_open_the_page(
    staff: Staff, unavailable: list[bool], end: Callable[[Client, User], None]
) -> None:
    """Scenario 67."""
    client = staff("view", "change")
    cookies = cookies_of(client)
    unavailable[0] = True
    assert page_by(cookies).status_code == 200
    unavailable[0] = False
    end(client, client.user)  # type: ignore[attr-defined]
    unavailable[0] = True
    response = page_by(cookies)
    assert response.status_code == 302
    assert "leased" not in response.content.decode()


def test_other_changes_of_the_user_keep_the_cookie(staff: Staff, unavailable: list[bool]) -> None:
    client = staff("view")
    cookies = cookies_of(client)
    client.user.first_name = "Another"  # type: ignore[attr-defined]
    client.user.save()  # type: ignore[attr-defined]
    unavailable[0] = True
    assert "does not answer you" in page_by(cookies).content.decode()


def test_a_new_cookie_after_a_password_change_is_valid(
    staff: Staff, unavailable: list[bool]
) -> None:
    client = staff("view")
    old = cookies_of(client)
    change_password(client, client.user)  # type: ignore[attr-defined]
    client.force_login(client.user)  # type: ignore[attr-defined]
    new = cookies_of(client)
    unavailable[0] = True
    assert page_by(old).status_code == 302
    assert "does not answer you" in page_by(new).content.decode()


def test_a_session_found_to_be_over_is_revoked_and_its_cookie_deleted(
    staff: Staff, unavailable: list[bool]
) -> None:
    """Nothing tells of a session that was deleted in the database, until its next request."""
    client = staff("view")
    cookies = cookies_of(client)
    session = client.session
    saved = dict(session.items())
    session.flush()
    response = page_by(cookies)
    assert response.status_code == 302
    assert response.cookies[access.COOKIE]["max-age"] == 0
    assert response.cookies[access.COOKIE]["path"] == reverse(PAGE)
    store = import_module("django.contrib.sessions.backends.db").SessionStore
    restored = store(cookies["sessionid"])
    restored.update(saved)
    restored.save(must_create=True)
    unavailable[0] = True
    assert "does not answer you" not in page_by(cookies).content.decode()


def test_sessions_in_files_are_checked_without_the_database(
    staff: Staff, unavailable: list[bool], settings: LazySettings, tmp_path: Path
) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.file"
    settings.SESSION_FILE_PATH = str(tmp_path)
    client = staff("view")
    cookies = cookies_of(client)
    unavailable[0] = True
    assert "does not answer you" in page_by(cookies).content.decode()
    client.session.flush()
    assert page_by(cookies).status_code == 302


# ---- what processes share ----------------------------------------------------------------------


@pytest.fixture
def shared_cache(settings: LazySettings, tmp_path: Path) -> None:
    settings.CACHES = file_cache(tmp_path / "cache")


def test_another_process_learns_of_it(shared_cache: None) -> None:
    here, there = Revocations(), Revocations()
    assert not there.is_revoked("a", "1", "hash")
    here.record("session:a")
    eventually(lambda: there.is_revoked("a", "1", "hash"))
    assert not there.is_revoked("b", "1", "hash")
    here.record(_user_name("1"), "new hash")
    eventually(lambda: there.is_revoked("b", "1", "hash"))
    assert not there.is_revoked("b", "1", "new hash")
    here.record(_user_name("1"))
    eventually(lambda: there.is_revoked("b", "1", "new hash"))


def test_a_failing_cache_leaves_what_this_process_knows(
    settings: LazySettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = "tests.fleet.test_cache_store.BrokenCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": str(tmp_path)}}
    caplog.set_level(logging.WARNING, "pooling")
    revocations = Revocations()
    revocations.record("session:a")
    eventually(lambda: "cannot be written to the cache: ConnectionError" in caplog.text)
    assert revocations.is_revoked("a", "1", "hash")
    assert not revocations.is_revoked("b", "1", "hash")
    assert "revoked access cookies cannot be read: the cache failed" in caplog.text
    assert "geheim" not in caplog.text


def test_one_worker_writes_all_of_them(shared_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that hangs costs one thread, however many users log out."""
    jobs: list[Any] = []
    monkeypatch.setattr("pooling.admin.revocation.WORKERS.run", jobs.append)
    here = Revocations()
    for number in range(50):
        here.record(f"session:{number}")
    [job] = jobs
    job()
    monkeypatch.undo()
    there = Revocations()
    assert all(there.is_revoked(str(number), "1", "hash") for number in range(50))


def test_recording_raises_nothing(
    shared_cache: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It must not keep a user from being saved or logged out."""

    def fail(job: Any) -> None:
        raise RuntimeError("can't start new thread")

    here, there = Revocations(), Revocations()
    with monkeypatch.context() as patch:
        patch.setattr("pooling.admin.revocation.WORKERS.run", fail)
        here.record("session:a")
    assert "cannot be recorded" in caplog.text
    assert here.is_revoked("a", "1", "hash")
    here.record("session:b")
    eventually(lambda: there.is_revoked("a", "1", "hash"))


def test_entries_expire_and_are_limited() -> None:
    assert access.COOKIE_LIFETIME <= LIFETIME
    seconds = [0.0]
    revocations = Revocations(now=lambda: seconds[0])
    revocations.record("session:old")
    seconds[0] = LIFETIME - 1
    assert revocations.is_revoked("old", "1", "hash")
    seconds[0] = LIFETIME + 1
    assert not revocations.is_revoked("old", "1", "hash")
    revocations.record("session:new")
    assert list(revocations._entries) == ["session:new"]
    for number in range(MAX_ENTRIES + 10):
        revocations.record(f"session:{number}")
    assert len(revocations._entries) == MAX_ENTRIES
    assert revocations.is_revoked(str(MAX_ENTRIES + 9), "1", "hash")


def test_no_session_key_is_stored() -> None:
    assert "secret" not in digest("secret")
