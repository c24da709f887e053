"""What a lease may cost through Django, counted: see tests/core/test_budgets.py.

What is counted is what a request does without a query: `ensure_connection`, and what Django calls
for every connection between two requests (`close_old_connections`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.call_counter import blocks_kept, bytecodes, calls, names

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from tests.support.databases import Database


pytestmark = pytest.mark.serial


class Budget(NamedTuple):
    """The most there may be, of all drivers and versions of Python and Django."""

    python_calls: int
    c_calls: int
    bytecodes: int


LEASE = {
    "postgresql": Budget(22, 14, 680),
    "sqlite": Budget(18, 14, 700),
    "mysql": Budget(22, 14, 725),
}
"""Acquire and release, without a query."""
QUERY = {
    "postgresql": Budget(20, 15, 675),
    "sqlite": Budget(17, 20, 755),
    "mysql": Budget(46, 41, 1300),
}
"""What a query in a lease costs more than the same query on Django's own backend, the lease
included: cursors are remembered until they are closed, and on MySQL the text of each statement is
looked at, since no status of the server's tells of each that may begin a transaction."""
BLOCKS_KEPT = 500
"""Pieces of memory by which two thousand leases may make the process grow: caches, and threads."""


def lease(wrapper: BaseDatabaseWrapper) -> None:
    """What a request without a query does."""
    wrapper.ensure_connection()
    wrapper.close_if_unusable_or_obsolete()


def query(wrapper: BaseDatabaseWrapper) -> None:
    """What a request with a query does."""
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
    wrapper.close_if_unusable_or_obsolete()


def test_a_lease_calls_few_functions(database: Database) -> None:
    wrapper = database.wrapper()
    budget = LEASE[database.vendor]

    counted = calls(lambda: lease(wrapper))

    what = ", ".join(names(lambda: lease(wrapper)))
    assert counted.python <= budget.python_calls, what
    assert counted.c <= budget.c_calls, what


def test_a_lease_runs_few_instructions(database: Database) -> None:
    wrapper = database.wrapper()

    assert bytecodes(lambda: lease(wrapper)) <= LEASE[database.vendor].bytecodes


def test_a_query_in_a_lease_costs_little_more_than_on_a_connection_that_stays(
    database: Database,
) -> None:
    pooled, stock = database.wrapper(), database.stock(CONN_MAX_AGE=None)
    budget = QUERY[database.vendor]

    with_pool, without = calls(lambda: query(pooled)), calls(lambda: query(stock))

    what = ", ".join(names(lambda: query(pooled)))
    assert with_pool.python - without.python <= budget.python_calls, what
    assert with_pool.c - without.c <= budget.c_calls, what
    more = bytecodes(lambda: query(pooled)) - bytecodes(lambda: query(stock))
    assert more <= budget.bytecodes


def test_a_lease_costs_the_same_with_many_idle_connections(database: Database) -> None:
    few, many = database.wrapper(pool={"max_size": 1}), database.wrapper(pool={"max_size": 8})
    held = [database.wrapper(pool={"max_size": 8}) for _ in range(8)]
    for each in held:
        each.ensure_connection()
    for each in held:
        each.close()

    assert bytecodes(lambda: lease(many)) == bytecodes(lambda: lease(few))


def test_leases_give_all_memory_back(database: Database) -> None:
    wrapper = database.wrapper()

    assert blocks_kept(lambda: lease(wrapper), 2_000) <= BLOCKS_KEPT
    assert blocks_kept(lambda: query(wrapper), 2_000) <= BLOCKS_KEPT
