"""`connect_params`: a function supplies what changes: tokens, leases, passwords in files."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError

from pooling import PoolTimeout, fleet
from tests.support.databases import PATIENCE, eventually, in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.support.databases import Database, PostgresDatabase

PATH = f"{__name__}.supply"
WRONG = "not-the-passw0rd"


class Supplier:
    """What the function does at the moment, and how often it was called."""

    def __init__(self) -> None:
        self.calls: list[Mapping[str, Any]] = []
        self.answer: Callable[[], Any] = dict

    def __call__(self, params: Mapping[str, Any]) -> Any:
        self.calls.append(params)
        return self.answer()


SUPPLIER = Supplier()


def supply(params: Mapping[str, Any]) -> Any:
    """The function of the settings."""
    return SUPPLIER(params)


@pytest.fixture
def supplier() -> Supplier:
    global SUPPLIER
    SUPPLIER = Supplier()
    return SUPPLIER


@pytest.fixture
def settings_of_role(role: str) -> dict[str, Any]:
    """What leads to the role, with a password that is wrong."""
    return {"USER": role, "PASSWORD": WRONG}


def options(**more: Any) -> dict[str, Any]:
    return {"connect_params": PATH, **more}


def user(wrapper: Any) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT current_user")
        return cursor.fetchone()[0]


def test_it_is_asked_for_each_physical_connection(
    postgresql: PostgresDatabase, supplier: Supplier, settings_of_role: dict[str, Any]
) -> None:
    supplier.answer = lambda: {"password": "first"}
    wrappers = [postgresql.wrapper(pool=options(), **settings_of_role) for _ in range(2)]
    for _ in range(3):
        for wrapper in wrappers:
            assert user(wrapper) == settings_of_role["USER"]
            wrapper.close()
    pool = wrappers[0].resolve_pool()
    assert wrappers[1].resolve_pool() is pool
    assert len(supplier.calls) == pool.stats().connects == 1
    pool.drain()
    user(wrappers[0])
    assert len(supplier.calls) == 2
    assert supplier.calls[0]["user"] == settings_of_role["USER"]
    assert supplier.calls[0]["dbname"] == postgresql.entry["NAME"]


def test_another_user_may_be_supplied(
    postgresql: PostgresDatabase, supplier: Supplier, role: str
) -> None:
    supplier.answer = lambda: {"user": role, "password": "first"}
    wrapper = postgresql.wrapper(pool=options())
    assert user(wrapper) == role


def test_connections_without_a_pool_ask_it_too(
    postgresql: PostgresDatabase, supplier: Supplier
) -> None:
    """Such as the one that creates a test database."""
    supplier.answer = lambda: {"password": postgresql.entry["PASSWORD"]}
    wrapper = postgresql.wrapper(pool=options(), PASSWORD=WRONG)
    with wrapper._nodb_cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    assert len(supplier.calls) == 1


def test_a_password_is_rotated_under_load(
    postgresql: PostgresDatabase, supplier: Supplier, settings_of_role: dict[str, Any]
) -> None:
    """Between the server's change and the store's, logins fail: they are tried again.

    Scenario 69.
    """
    role, store = settings_of_role["USER"], {"password": "first"}
    supplier.answer = lambda: dict(store)
    over = threading.Event()
    pool = options(max_size=4, max_uses=2, timeout=PATIENCE)
    done = []

    def work() -> None:
        wrapper = postgresql.wrapper(pool=pool, **settings_of_role)
        while not over.is_set():
            assert user(wrapper) == role
            wrapper.close()
            done.append(1)

    def rotate() -> None:
        wrapper = postgresql.wrapper(pool=pool, **settings_of_role)
        stats = wrapper.resolve_pool().stats
        try:
            for number in range(5):
                postgresql.execute(f"ALTER ROLE {role} PASSWORD '{number}'")
                failed, answered = stats().connect_errors, len(done)
                eventually(lambda failed=failed: stats().connect_errors > failed)
                store["password"] = str(number)
                eventually(lambda answered=answered: len(done) > answered + 50)
        finally:
            over.set()

    workers = iter([rotate, *[work] * 8])
    lock = threading.Lock()

    def run() -> None:
        with lock:
            job = next(workers)
        job()

    in_threads(9, run)
    assert len(done) > 250


def test_what_it_raises_is_an_error_of_connecting(database: Database, supplier: Supplier) -> None:
    def fail() -> None:
        raise RuntimeError("no token today")

    supplier.answer = fail
    wrapper = database.wrapper(pool=options(timeout=0.2, fail_fast=None))
    expected = f"connect_params: {PATH} failed with RuntimeError: no token today"
    with pytest.raises(OperationalError, match=expected):
        wrapper.ensure_connection()
    supplier.answer = dict
    wrapper.acquire_timeout = PATIENCE
    wrapper.ensure_connection()
    assert wrapper.resolve_pool().stats().last_error == expected


def test_callers_wait_until_it_answers_again(
    postgresql: PostgresDatabase, supplier: Supplier
) -> None:
    def fail() -> None:
        supplier.answer = dict
        raise OSError("the vault is sealed")

    supplier.answer = fail
    wrapper = postgresql.wrapper(pool=options(timeout=PATIENCE))
    user(wrapper)
    assert (len(supplier.calls), wrapper.resolve_pool().stats().connect_errors) == (2, 1)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "returned a NoneType, and no mapping of parameters"),
        ({"host": "elsewhere", "port": 1}, "returned host, port, which would lead to another"),
        ({"dbname": "other", "database": "x"}, "returned database, dbname, which would lead"),
    ],
)
def test_an_answer_that_is_of_no_use_fails_at_once(
    postgresql: PostgresDatabase, supplier: Supplier, answer: Any, problem: str
) -> None:
    supplier.answer = lambda: answer
    wrapper = postgresql.wrapper(pool=options(timeout=None))
    with pytest.raises(OperationalError, match=problem):
        wrapper.ensure_connection()
    assert len(supplier.calls) == 1


def test_a_call_that_hangs_is_the_only_one(
    postgresql: PostgresDatabase, supplier: Supplier
) -> None:
    gate = threading.Event()
    supplier.answer = lambda: {"gssencmode": "disable"} if gate.wait(PATIENCE) else None
    pool = options(max_size=5, timeout=0.1, fail_fast=None)
    wrapper = postgresql.wrapper(pool=pool)

    def attempt() -> str:
        with pytest.raises(PoolTimeout) as caught:
            wrapper.resolve_pool().acquire()
        return str(caught.value)

    errors = in_threads(3, attempt) + in_threads(3, attempt)
    assert len(supplier.calls) == 1
    stats = wrapper.resolve_pool().stats()
    eventually(lambda: wrapper.resolve_pool().stats().last_error)
    assert "has not returned within 0.1 s" in str(wrapper.resolve_pool().stats().last_error)
    assert errors
    assert stats.leased == 0
    gate.set()
    wrapper.acquire_timeout = PATIENCE
    user(wrapper)


def test_a_value_in_the_text_of_an_error_is_left_out(
    postgresql: PostgresDatabase, supplier: Supplier
) -> None:
    supplier.answer = lambda: {"user": "v-token-shop-1234"}
    wrapper = postgresql.wrapper(pool=options(timeout=0.2, fail_fast=None))
    with pytest.raises(OperationalError) as caught:
        wrapper.ensure_connection()
    assert "<user>" in str(caught.value)
    assert "v-token" not in str(caught.value)


def test_what_it_supplies_is_shown_nowhere(
    postgresql: PostgresDatabase,
    supplier: Supplier,
    settings_of_role: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = "t0ken-of-today"
    caplog.set_level("DEBUG")
    supplier.answer = lambda: {"password": secret}
    pool = options(timeout=0.2, name="secretive")
    wrapper = postgresql.wrapper(pool=pool, **settings_of_role)
    with pytest.raises(OperationalError) as caught:
        user(wrapper)
    link: BaseException | None = caught.value
    while link is not None:
        assert secret not in str(link)
        frames = link.__traceback__
        while frames is not None:
            shown = {repr(value) for value in frames.tb_frame.f_locals.values()}
            if frames.tb_frame.f_globals["__name__"].startswith("pooling"):
                assert not any(secret in each for each in shown), frames.tb_frame.f_code
            frames = frames.tb_next
        link = link.__cause__
    assert secret not in json.dumps(fleet.snapshot())
    assert secret not in caplog.text
