"""What identifies a session: parameters of the caller, objects made per call, credentials."""

from __future__ import annotations

import contextvars
import copy
import functools
import logging
import pickle
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connections
from django.db.utils import load_backend
from django.utils.functional import lazy

from pooling import get_pool
from pooling.backends.identity import HiddenDict, PoolKey, frozen, is_made_per_call
from pooling.registry import MANY_POOLS, REGISTRY
from tests.support.call_counter import calls
from tests.support.databases import (
    Database,
    PostgresDatabase,
    SqliteDatabase,
    in_thread,
    in_threads,
)
from tests.support.fakes import TEST_TIMEOUT, Caller
from tests.support.mariadb import MariaDatabase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("TENANT")


def where(wrapper: Any) -> str:
    """Return the database that a wrapper really is connected to."""
    with wrapper.cursor() as cursor:
        if wrapper.vendor == "sqlite":
            return str(cursor.execute("PRAGMA database_list").fetchone()[2])
        postgresql = wrapper.vendor == "postgresql"
        cursor.execute("SELECT current_database()" if postgresql else "SELECT DATABASE()")
        return str(cursor.fetchone()[0])


def subclass(database: Database, **methods: Any) -> type[Any]:
    base = load_backend(database.entry["ENGINE"]).DatabaseWrapper
    return type("DatabaseWrapper", (base,), methods)


@pytest.fixture
def tenants(
    database: Database, new_database: Callable[[], str], tmp_path: Path
) -> Iterator[list[str]]:
    """The names of two databases beside the one of the settings."""
    if database.vendor == "postgresql":
        names = [new_database() for _ in range(2)]
    elif isinstance(database, MariaDatabase):
        names = [database.create_other() for _ in range(2)]
    else:
        names = [str(tmp_path / f"{name}.sqlite3") for name in "ab"]
    yield names
    for name in names:
        REGISTRY.close_database(name)


# ---- parameters that depend on the caller ------------------------------------------------------


def test_each_caller_gets_the_session_that_its_context_asks_for(
    database: Database, tenants: list[str]
) -> None:
    """Scenario 62: A tenant engine: the settings are the same for all tenants."""
    key = "dbname" if database.vendor == "postgresql" else "database"

    def get_connection_params(self: Any) -> dict[str, Any]:
        return {**super(cls, self).get_connection_params(), key: TENANT.get()}

    cls = subclass(database, get_connection_params=get_connection_params)
    wrapper = cls(database.settings(), "default")
    try:
        for tenant in [*tenants, *tenants]:
            TENANT.set(tenant)
            assert where(wrapper) == tenant
            wrapper.close()
    finally:
        REGISTRY.close_database(wrapper.database_identity(database.entry["NAME"]))


def test_a_thread_local_decides_in_the_thread_of_the_caller(
    database: Database, tenants: list[str]
) -> None:
    """The worker that opens the connection knows nothing of it."""
    local = threading.local()
    key = "dbname" if database.vendor == "postgresql" else "database"

    def get_connection_params(self: Any) -> dict[str, Any]:
        return {**super(cls, self).get_connection_params(), key: local.tenant}

    cls = subclass(database, get_connection_params=get_connection_params)
    remaining = [*tenants]

    def work() -> tuple[str, str]:
        local.tenant = remaining.pop()
        wrapper = cls(database.settings(), "default")
        found = where(wrapper)
        wrapper.close()
        return local.tenant, found

    try:
        for wanted, found in in_threads(2, work):
            assert wanted == found
    finally:
        REGISTRY.close_database(
            cls(database.settings(), "default").database_identity(database.entry["NAME"])
        )


def test_settings_made_anew_for_each_look_are_followed(
    database: Database, tenants: list[str]
) -> None:
    """`settings_dict` may be a property."""

    def get(self: Any) -> dict[str, Any]:
        return {**self.given, "NAME": TENANT.get()}

    def put(self: Any, settings: dict[str, Any]) -> None:
        self.given = settings

    cls = subclass(database, settings_dict=property(get, put))
    TENANT.set(tenants[0])
    wrapper = cls(database.settings(pool={"max_size": 2}), "default")
    for tenant in [*tenants, *tenants]:
        TENANT.set(tenant)
        assert where(wrapper) == tenant
        assert wrapper.resolve_pool().config.max_size == 2
        wrapper.close()


def test_settings_are_not_touched_while_parameters_are_made(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread, or a signal handler, may look at them."""
    wrapper = database.wrapper(pool={"max_size": 3})
    stock = next(
        each
        for each in type(wrapper).__mro__
        if "get_connection_params" in vars(each) and each.__module__.startswith("django.")
    )
    original = stock.get_connection_params  # type: ignore[attr-defined]
    seen = []

    def look(self: Any) -> dict[str, Any]:
        seen.append(wrapper.settings_dict["OPTIONS"]["pool"]["max_size"])
        return original(self)  # type: ignore[no-any-return]

    monkeypatch.setattr(stock, "get_connection_params", look)
    database.session(wrapper)
    assert set(seen) == {3}


def test_a_token_that_changes_reaches_the_connections_to_come(
    postgresql: PostgresDatabase, role: str
) -> None:
    tokens = ["first"]

    def get_connection_params(self: Any) -> dict[str, Any]:
        return {**super(cls, self).get_connection_params(), "password": tokens[0]}

    cls = subclass(postgresql, get_connection_params=get_connection_params)
    wrappers = [cls(postgresql.settings(USER=role, PASSWORD="unknown"), "default") for _ in "ab"]
    sessions = {postgresql.session(wrappers[0])}
    postgresql.execute(f"ALTER ROLE {role} PASSWORD 'second'")
    tokens[0] = "second"
    sessions.add(postgresql.session(wrappers[1]))
    assert len(sessions) == 2
    assert wrappers[0].resolve_pool() is wrappers[1].resolve_pool()
    for wrapper in wrappers:
        wrapper.close()


@pytest.mark.parametrize("on", ["class", "object", "stock class"])
def test_a_method_put_in_its_place_is_asked_for_each_caller(
    database: Database, tenants: list[str], monkeypatch: pytest.MonkeyPatch, on: str
) -> None:
    """Scenario 62: without a subclass."""
    key = "dbname" if database.vendor == "postgresql" else "database"
    wrapper = database.wrapper()
    stock = next(
        each
        for each in type(wrapper).__mro__
        if "get_connection_params" in vars(each) and each.__module__.startswith("django.")
    )
    owner = {"class": type(wrapper), "object": wrapper, "stock class": stock}[on]
    original = owner.get_connection_params

    @functools.wraps(original)
    def get_connection_params(*args: Any) -> dict[str, Any]:
        return {**original(*args), key: TENANT.get()}

    TENANT.set(tenants[0])
    monkeypatch.setattr(owner, "get_connection_params", get_connection_params)
    for tenant in [*tenants, *tenants]:
        TENANT.set(tenant)
        assert where(wrapper) == tenant
        wrapper.close()


class TenantName:
    """The name of the database of the present tenant."""

    def __str__(self) -> str:
        return TENANT.get()

    def __len__(self) -> int:
        return len(str(self))


lazy_tenant: Any = lazy(lambda: TENANT.get(), str)


@pytest.mark.parametrize("make", [TenantName, lazy_tenant])
def test_a_name_that_is_evaluated_late_is_evaluated_for_each_caller(
    postgresql: PostgresDatabase, new_database: Callable[[], str], make: Callable[[], Any]
) -> None:
    names = [new_database() for _ in range(2)]
    wrapper = postgresql.wrapper()
    wrapper.settings_dict["NAME"] = make()
    for tenant in [*names, *names]:
        TENANT.set(tenant)
        assert where(wrapper) == tenant
        wrapper.close()
    for name in names:
        REGISTRY.close_database(name)


def test_callers_that_differ_by_their_password_alone_can_be_kept_apart(
    postgresql: PostgresDatabase, role: str
) -> None:
    """By default they share the pool of their alias, since a password may be a token."""
    cls = subclass(
        postgresql,
        credential_params=(),
        get_connection_params=lambda self: {
            **super(cls, self).get_connection_params(),
            "password": TENANT.get(),
        },
    )
    wrapper = cls(postgresql.settings(USER=role), "default")
    TENANT.set("first")
    right = postgresql.session(wrapper)
    wrapper.close()
    TENANT.set("guessed")
    with pytest.raises(OperationalError, match="password authentication failed"):
        wrapper.ensure_connection()
    TENANT.set("first")
    assert postgresql.session(wrapper) == right
    wrapper.close()


# ---- objects made per call ---------------------------------------------------------------------


def make_class(base: type, alias: str) -> type:
    class Counting(base):  # type: ignore[misc]
        counted_for = alias

    return Counting


def test_a_cursor_class_made_per_call_leads_to_one_pool(postgresql: PostgresDatabase) -> None:
    """Scenario 63: as django-prometheus does it."""

    def get_connection_params(self: Any) -> dict[str, Any]:
        params = super(cls, self).get_connection_params()
        params["cursor_factory"] = make_class(params["cursor_factory"], self.alias)
        return params  # type: ignore[no-any-return]

    cls = subclass(postgresql, get_connection_params=get_connection_params)

    def work() -> tuple[Any, str]:
        wrapper = cls(postgresql.settings(pool={"max_size": 3}), "default")
        with wrapper.cursor() as cursor:
            found = cursor.cursor.counted_for
        pool = wrapper.resolve_pool()
        wrapper.close()
        return pool, found

    pools = {pool for pool, found in [*in_threads(10, work), work()] if found == "default"}
    assert len(pools) == 1
    assert len(postgresql.sessions()) <= 3
    other = cls(postgresql.settings(pool={"max_size": 3}), "other")
    assert other.resolve_pool() not in pools, "it counts for the other alias"


def test_a_connection_class_made_per_call_leads_to_one_pool(database: Database) -> None:
    if database.vendor != "sqlite":
        pytest.skip("the cursor class is PostgreSQL's case")

    def get_connection_params(self: Any) -> dict[str, Any]:
        params = super(cls, self).get_connection_params()
        params["factory"] = functools.partial(make_class(params["factory"], self.alias))
        return params  # type: ignore[no-any-return]

    cls = subclass(database, get_connection_params=get_connection_params)
    wrappers = [cls(database.settings(), "default") for _ in range(5)]
    assert len({wrapper.resolve_pool() for wrapper in wrappers}) == 1
    assert where(wrappers[0])
    wrappers[0].close()


def test_a_class_whose_state_changes_leads_to_one_pool(sqlite: SqliteDatabase) -> None:
    """It counts its connections, so that it looks different after each of them."""
    opened: list[object] = []

    class Counting(sqlite3.Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            opened.append(object())

    settings = sqlite.settings(OPTIONS={"factory": Counting})
    cls = load_backend(settings["ENGINE"]).DatabaseWrapper
    pools = set()
    for _ in range(3):
        wrapper = cls(settings, "default")
        assert where(wrapper)
        pools.add(wrapper.resolve_pool())
        wrapper.close()
    assert len(pools) == len(opened) == 1


class Plain:
    def __init__(self, value: int) -> None:
        self.value = value


def make_function(value: int) -> Callable[[], int]:
    return lambda: value


@pytest.mark.parametrize(
    ("one", "two", "equal"),
    [
        (make_class(Plain, "a"), make_class(Plain, "a"), True),
        (make_class(Plain, "a"), make_class(Exception, "a"), False),
        (make_function(1), make_function(1), True),
        (make_function(1), make_function(2), False),
        (functools.partial(make_function, 1), functools.partial(make_function, 1), True),
        (functools.partial(make_function, 1), functools.partial(make_function, 2), False),
        (Plain(1), Plain(1), True),
        (Plain(1), Plain(2), False),
        (Plain(1).__init__, Plain(1).__init__, True),
        ({"a": [1, {2}]}, {"a": [1, {2}]}, True),
        (Plain, Exception, False),
        (object(), object(), True),
    ],
)
def test_frozen_describes_what_is_made_anew(one: Any, two: Any, equal: bool) -> None:
    assert (frozen(one) == frozen(two)) is equal
    hash(frozen(one))


def test_frozen_ends_with_objects_that_refer_to_themselves() -> None:
    one = Plain(1)
    one.value = one  # type: ignore[assignment]
    hash(frozen(one))


def test_what_a_module_knows_by_name_is_itself() -> None:
    assert frozen(Plain) is Plain
    assert not is_made_per_call(Plain)
    assert is_made_per_call(make_class(Plain, "a"))
    assert not is_made_per_call("a text")


def test_an_alias_that_keeps_getting_pools_is_warned_of_once(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 63."""
    wrappers = [
        database.wrapper("many", pool={"name": f"pool {number}"})
        for number in range(MANY_POOLS + 3)
    ]
    REGISTRY._warned.discard("many")
    with caplog.at_level(logging.WARNING, "pooling"):
        pools = [wrapper.resolve_pool() for wrapper in wrappers]
    assert len(set(pools)) == MANY_POOLS + 3
    [message] = [each.getMessage() for each in caplog.records if "'many'" in each.getMessage()]
    assert "get_connection_params()" in message


# ---- credentials -------------------------------------------------------------------------------


def test_an_alias_with_a_wrong_password_is_refused(postgresql: PostgresDatabase, role: str) -> None:
    """Scenario 66: though the right one has an idle session of the same user."""
    right = postgresql.wrapper("right", USER=role, PASSWORD="first")
    session = postgresql.session(right)
    right.close()
    wrong = postgresql.wrapper("wrong", USER=role, PASSWORD="guessed")
    with pytest.raises(OperationalError, match="password authentication failed"):
        wrong.ensure_connection()
    same = postgresql.wrapper("same", USER=role, PASSWORD="first")
    assert postgresql.session(same) == session


def test_a_password_changed_for_one_alias_does_not_reach_the_other(
    postgresql: PostgresDatabase, role: str
) -> None:
    """Each is served as its own settings deserve; the pool of the first one goes on."""
    one = postgresql.wrapper("one", USER=role, PASSWORD="first")
    two = postgresql.wrapper("two", USER=role, PASSWORD="first")
    pool = one.resolve_pool()
    assert two.resolve_pool() is pool
    postgresql.execute(f"ALTER ROLE {role} PASSWORD 'second'")
    one.settings_dict["PASSWORD"] = "second"
    assert postgresql.session(one)
    assert one.resolve_pool() is pool
    one.close()
    with pytest.raises(OperationalError, match="password authentication failed"):
        two.ensure_connection()
    two.settings_dict["PASSWORD"] = "second"
    assert postgresql.session(two)
    two.close()


def test_nothing_shows_a_secret() -> None:
    params = HiddenDict(password="hunter2")
    key = PoolKey("hunter2").extended("hunter2")
    assert "hunter2" not in f"{params!r} {key!r} {params} {[params]}"
    assert "password" in repr(params)


# ---- copies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copied_wrapper_has_no_part_in_the_lease(database: Database, duplicate: Any) -> None:
    wrapper = database.wrapper(pool={"max_size": 2})
    session = database.session(wrapper)
    copied = duplicate(wrapper)
    assert copied.connection is None
    copied.close()
    assert wrapper.resolve_pool().stats().leased == 1
    assert database.session(wrapper) == session
    assert database.session(copied) != session
    copied.close()
    assert wrapper.connection is not None


def test_a_wrapper_cannot_be_pickled(database: Database) -> None:
    """As without a pool."""
    wrapper = database.wrapper()
    database.session(wrapper)
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(wrapper)


def test_get_pool_follows_the_context_of_the_caller(database: Database, tenants: list[str]) -> None:
    key = "dbname" if database.vendor == "postgresql" else "database"

    def get_connection_params(self: Any) -> dict[str, Any]:
        return {**super(cls, self).get_connection_params(), key: TENANT.get()}

    cls = subclass(database, get_connection_params=get_connection_params)
    wrapper = cls(database.settings(), "tenants")
    with database.known_as("tenants", wrapper):
        assert connections["tenants"] is wrapper
        found = []
        for tenant in [*tenants, *tenants]:
            TENANT.set(tenant)
            found.append(get_pool("tenants"))
    assert found[:2] == found[2:]
    assert found[0] is not found[1]
    assert in_thread(lambda: TENANT.get(None)) is None


def test_classes_that_differ_in_what_their_methods_know_are_different() -> None:
    """A tenant's class, made per call, must not lead to another tenant's pool."""

    def made_for(tenant: str) -> type:
        class Factory:
            def tenant(self) -> str:
                return tenant

            @classmethod
            def also(cls) -> str:
                return tenant

        return Factory

    assert frozen(made_for("a")) == frozen(made_for("a"))
    assert frozen(made_for("a")) != frozen(made_for("b"))


def test_what_is_deep_inside_tells_as_well() -> None:
    def nested(value: str) -> Any:
        found: Any = value
        for _ in range(30):
            found = {"deeper": [found]}
        return found

    assert frozen(nested("a")) == frozen(nested("a"))
    assert frozen(nested("a")) != frozen(nested("b"))


def test_ordinary_parameters_are_described_at_little_cost(database: Database) -> None:
    wrapper = database.wrapper()
    params = wrapper.get_connection_params()
    counted = calls(lambda: wrapper.session_identity(params))
    assert counted.python + counted.c < 300
    assert frozen(None) is None
    assert frozen(type(None)) is type(None)


def test_what_many_objects_share_is_described_once() -> None:
    def shared() -> Any:
        found: Any = Plain(1)
        for _ in range(100):
            found = [found, found]
        return found

    assert frozen(shared()) == frozen(shared())


def test_what_is_too_large_to_describe_is_itself() -> None:
    large = [Plain(number) for number in range(2_000)]
    assert frozen(large) == frozen(large)
    assert frozen(large) != frozen([Plain(number) for number in range(2_000)])


def test_a_method_of_a_wrapper_is_described_by_what_users_have_set_on_it(
    database: Database,
) -> None:
    """Not by its connection, which differs from one moment to the other."""
    one, two = database.wrapper(), database.wrapper()
    two.resolve_pool()
    database.session(one)
    one.chunked_cursor().close()
    assert frozen(one.cursor) == frozen(two.cursor)
    two.tenant = "a"
    assert frozen(one.cursor) != frozen(two.cursor)


def test_threads_that_see_an_object_first_at_the_same_moment_describe_it_alike() -> None:
    """Its state changes meanwhile; two descriptions would be two pools."""
    both = threading.Barrier(2, timeout=TEST_TIMEOUT)

    class Counting:
        def __getstate__(self) -> int:
            return both.wait()  # 0 or 1

    value = Counting()
    first, second = [Caller(lambda: frozen(value)) for _ in range(2)]
    assert first.result() == second.result() == frozen(value)
