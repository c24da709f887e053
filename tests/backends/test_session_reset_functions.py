"""The SQL classifier's functions, compared with what the server says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooling.backends.postgresql.sql_classifier import FUNCTIONS, UNSAFE_WORDS

if TYPE_CHECKING:
    from tests.support.databases import PostgresDatabase

EXTENSIONS = ("hstore", "pg_trgm", "pgcrypto", "unaccent", "uuid-ossp")
"""Those whose functions are in `FUNCTIONS`; a server may come without them."""

REVIEWED = {
    "reads a clock, or the state of the server": (
        "clock_timestamp pg_is_in_recovery pg_sleep timeofday"
    ),
    "random, and not settable without `setseed`": (
        "crypt gen_random_bytes gen_random_uuid gen_salt random uuid_generate_v4 uuidv4 uuidv7"
    ),
    "reads sizes of files": (
        "pg_database_size pg_relation_size pg_table_size pg_total_relation_size"
    ),
    "acts on other sessions": "pg_cancel_backend pg_notify pg_terminate_backend",
    "ends with the transaction": (
        "pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_xact_lock "
        "pg_try_advisory_xact_lock_shared"
    ),
    "sequences: an INSERT changes the value of `lastval` as well": "currval lastval nextval setval",
}
"""The volatile functions among `FUNCTIONS`, by the reason why they do not change a session.
PostgreSQL calls a function volatile that may change anything, or that runs any SQL."""


def test_each_volatile_function_was_reviewed(postgresql: PostgresDatabase) -> None:
    available = dict(postgresql.execute("SELECT name, 1 FROM pg_available_extensions"))
    for extension in EXTENSIONS:
        if extension in available:
            postgresql.execute(f'CREATE EXTENSION "{extension}"')
    volatile = {
        name
        for (name,) in postgresql.execute("SELECT proname FROM pg_proc WHERE provolatile = 'v'")
    }
    known = {name for (name,) in postgresql.execute("SELECT proname FROM pg_proc")}
    reviewed = set(" ".join(REVIEWED.values()).split())

    assert volatile & FUNCTIONS - reviewed == set()
    assert reviewed <= FUNCTIONS
    assert len(known & FUNCTIONS) > 200, "and the server knows most of them"


def test_functions_that_run_sql_are_not_neutral(postgresql: PostgresDatabase) -> None:
    """They are the functions with a text that the server runs, or with a cursor's name."""
    rows = postgresql.execute(
        r"SELECT proname FROM pg_proc WHERE proname ~ '(_to_xml|xmlschema)' "
        "OR proname IN ('ts_rewrite', 'ts_stat', 'set_config', 'setseed')"
    )
    names = {name for (name,) in rows}

    assert {"ts_rewrite", "ts_stat", "query_to_xml", "set_config", "setseed"} <= names
    assert names & FUNCTIONS == set()


def test_the_views_that_do_more_than_they_say_are_not_neutral(postgresql: PostgresDatabase) -> None:
    """`UPDATE pg_settings` is a `set_config` by a rule; a SELECT is rule "1"."""
    rows = postgresql.execute(
        "SELECT DISTINCT ev_class::regclass::text FROM pg_rewrite "
        "JOIN pg_class ON pg_class.oid = ev_class WHERE ev_type <> '1' AND relkind = 'v'"
    )
    names = {name for (name,) in rows}

    assert names == {"pg_settings"}
    assert names < UNSAFE_WORDS
