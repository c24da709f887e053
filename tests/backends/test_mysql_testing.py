"""MySQL and MariaDB: test databases, as `manage.py test` makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import django
from django.db import connections
from django.test import TestCase

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.backends.conftest import Thing
    from tests.support.mariadb import MariaDatabase


def test_a_test_database_is_made_cloned_and_destroyed(mariadb: MariaDatabase) -> None:
    name = f"test_{mariadb.entry['NAME']}"
    with mariadb.alias("shop", pool={"min_size": 1}) as wrapper:
        mariadb.session(wrapper)
        original = mariadb.entry["NAME"]
        creation = wrapper.creation
        # Deprecated in Django 6.0, where it is off by itself.
        options = {"serialize": False} if django.VERSION < (6, 0) else {}
        created = creation.create_test_db(verbosity=0, autoclobber=True, **options)
        try:
            assert created == name
            assert mariadb.value(wrapper, "SELECT DATABASE()") == name
            assert mariadb.sessions() == []
        finally:
            creation.destroy_test_db(original, verbosity=0)
    rows = mariadb.server.execute(f"SHOW DATABASES LIKE '{name}'")
    assert list(rows) == []


def test_a_test_case_undoes_what_its_tests_do(
    mariadb: MariaDatabase, things: Callable[[MariaDatabase], type[Thing]]
) -> None:
    thing = things(mariadb)
    with mariadb.alias("shop"):

        class Case(TestCase):
            databases = frozenset({"shop"})

            def test_creating(self) -> None:
                thing.objects.using("shop").create(name="one")
                assert thing.objects.using("shop").count() == 1

            test_again = test_creating

        for name in ("test_creating", "test_again"):
            Case.setUpClass()
            case = Case(name)
            result = case.run()
            Case.tearDownClass()
            assert result is not None
            assert result.wasSuccessful(), result.errors + result.failures
        assert thing.objects.using("shop").count() == 0
        assert connections["shop"].resolve_pool().stats().connects == 1
