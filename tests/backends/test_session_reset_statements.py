"""The SQL classifier: the ORM's statements are neutral; what may change the session is not."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.db.models import Func

from pooling.backends.postgresql import sql_classifier
from pooling.backends.postgresql.sql_classifier import (
    CACHE_SIZE,
    FUNCTIONS,
    KEYWORDS,
    LONGEST,
    _is_session_neutral,
    is_session_neutral,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

NEUTRAL = [
    "SELECT 1",
    "select 1;  ",
    " (SELECT 1) UNION ALL (SELECT 2) ORDER BY 1",
    'SELECT "a"."b", COUNT(*) AS "n" FROM "a" INNER JOIN "b" ON ("a"."x" = "b"."x") GROUP BY 1',
    'SELECT 1 WHERE ("a"."c" IN (%s, %s) AND NOT EXISTS(SELECT 1 AS "a" FROM "c" LIMIT 1))',
    'SELECT STRING_AGG("x", \',\' ORDER BY "y") FILTER (WHERE ("z" > 1)) OVER (PARTITION BY "a")',
    'SELECT DATE_TRUNC(\'day\', "t"."d" AT TIME ZONE \'UTC\'), EXTRACT(YEAR FROM "d")',
    'SELECT "t"."x"::numeric(10, 2), CAST("x" AS varchar(10)), "y" #> %s',
    "SELECT %(a)s, %(b)s WHERE x LIKE '%%a' ",
    'INSERT INTO "t" ("a", "b") VALUES (%s, %s), (%s, %s) RETURNING "t"."id"',
    'INSERT INTO public."t" (a) SELECT * FROM UNNEST((%s)::varchar[]) ON CONFLICT("a") DO NOTHING',
    'UPDATE "t" SET "a" = COALESCE("t"."a", %s), "b" = CASE WHEN ("t"."id" = 1) THEN 2 END',
    'DELETE FROM "t" WHERE "t"."id" IN (%s)',
    "WITH RECURSIVE c AS (SELECT 1) SELECT * FROM c",
    "/* route='users' */ SELECT 1 -- set_config('a', 'b', false)",
    "/**/ SELECT /***/ 1 /* ** / * // */",
    "/* one */ /* two */\n-- three\nSELECT 1",
    "SELECT 0x1F, 1_000, 1.5e-3, .5, 1., $1",
    "SELECT E'\\\\' || 'it''s' || E'\\' set_config('",
    "SELECT pg_catalog.count(*) FROM t",
    "VALUES (1), (2)",
    "EXPLAIN (ANALYZE, FORMAT JSON) SELECT 1",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    'SAVEPOINT "s1_x1"',
    'RELEASE SAVEPOINT "s1_x1"',
    'ROLLBACK TO SAVEPOINT "s1_x1"',
    "SET CONSTRAINTS ALL IMMEDIATE",
    "SET LOCAL statement_timeout = 5",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    'COPY "t" FROM STDIN',
    "SHOW search_path",
    "LOCK TABLE t",
    b"SELECT 1",
]

NOT_NEUTRAL = [
    "SET x = 1",
    "set search_path to a",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET",
    "RESET ALL",
    "DISCARD ALL",
    "LISTEN x",
    "UNLISTEN *",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "DEALLOCATE x",
    "COMMIT PREPARED 'x'",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "DO $$ BEGIN END $$",
    "CALL f()",
    "LOAD 'auto_explain'",
    "CREATE TEMP TABLE x (a int)",
    "CREATE TABLE pg_temp.x (a int)",
    "EXPLAIN ANALYZE CREATE TEMP TABLE x AS SELECT 1",
    "EXPLAIN ANALYZE EXECUTE x",
    "SELECT 1 INTO TEMP x",
    "SELECT * INTO x FROM y",
    "WITH a AS (SELECT 1) SELECT * INTO x FROM a",
    # functions, however they are written
    "SELECT set_config(%s, %s, false)",
    "SELECT Set_Config ('a', 'b', false)",
    "SELECT \"set_config\"('a', 'b', false)",
    "SELECT pg_catalog.set_config('a', 'b', false)",
    "SELECT set_config /* */ ('a', 'b', false)",
    "SELECT set_config--\n('a', 'b', false)",
    "WITH a AS (SELECT set_config(%s, %s, false)) SELECT 1",
    "INSERT INTO t SELECT set_config('a', 'b', false)",
    "INSERT INTO t (a) VALUES (set_config('a', 'b', false))",
    "INSERT INTO set_config (a) SELECT set_config('a', 'b', false)",
    "UPDATE t SET a = set_config('a', 'b', false)",
    "DELETE FROM t RETURNING set_config('a', 'b', false)",
    "COPY (SELECT set_config('a', 'b', false)) TO STDOUT",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_lock_shared(1)",
    "SELECT dblink_connect('x')",
    "SELECT lo_open(1, 2)",
    "SELECT setseed(0.1)",
    "SELECT a_function_of_mine(1)",
    "SELECT public.lower('a')",
    'SELECT "public" . "lower"(\'a\')',
    'SELECT "Lower"(1)',
    'SELECT "a""b"(1)',
    "SELECT ts_rewrite('a'::tsquery, 'SELECT set_config(''a'', ''b'', false)')",
    "SELECT * FROM ts_stat('SELECT 1')",
    "SELECT query_to_xml('SELECT 1', true, true, '')",
    # the rule of a view calls set_config
    "UPDATE pg_settings SET setting = '1' WHERE name = 'x'",
    'UPDATE "pg_catalog"."pg_settings" SET setting = 1',
    # what PostgreSQL and Python may read differently
    "SELECT 1into TEMP x",
    "SELECT \u0663('a')",
    "SELECT lower\u00a0('a')",
    # what hides something from a reader who is not careful
    "SELECT 1; SET x = 1",
    "SELECT 'a\\' || set_config('a', 'b', false) || '",
    "SELECT '' ; SET x = ''",
    "SELECT $$a$$",
    "SELECT $tag$;$tag$",
    "SELECT 1 /* /* */ */",
    "SELECT 1 /* /* */ */ , set_config('a', 'b', false) /* */",
    "SELECT 1 /*/ */ , set_config('a', 'b', false) /* */",
    "SELECT 1 /* / * */ , set_config('a', 'b', false) /* */",
    'SELECT "a""(1)',
    'SELECT U&"d\\0061t"(1)',
    "SELECT 'not closed",
    'SELECT "not closed',
    "SELECT 1 /* not closed",
    "",
    ";",
    "--",
    "(((",
    # what is not looked into
    b"SET x = 1",
    "SELECT 'ü'".encode(),
    None,
    pytest.param(object(), id="object()"),
    "SELECT " + "1 + " * LONGEST + "1",
]


@pytest.mark.parametrize("statement", NEUTRAL)
def test_neutral(statement: object) -> None:
    assert is_session_neutral(statement)


@pytest.mark.parametrize("statement", NOT_NEUTRAL, ids=lambda statement: repr(statement)[:40])
def test_not_neutral(statement: object) -> None:
    assert not is_session_neutral(statement)


@pytest.mark.parametrize("neutral", [item for item in NEUTRAL if isinstance(item, str)])
def test_what_is_added_to_a_neutral_statement_is_seen(neutral: str) -> None:
    without_end = neutral.rstrip("; ")
    if "--" not in neutral:
        assert not is_session_neutral(f"{without_end}; SET x = 1")
        assert not is_session_neutral(f"{without_end} , set_config('a', 'b', false)")
    assert not is_session_neutral(f"SET x = 1; {neutral}")


def test_the_verdicts_that_are_kept_are_bounded() -> None:
    _is_session_neutral.cache_clear()
    for number in range(CACHE_SIZE + 50):
        is_session_neutral(f"SELECT {number}")
        is_session_neutral("SELECT " + " " * LONGEST + str(number))
    assert _is_session_neutral.cache_info().currsize == CACHE_SIZE
    before = _is_session_neutral.cache_info().misses
    assert is_session_neutral(f"SELECT {CACHE_SIZE + 49}")
    assert _is_session_neutral.cache_info().misses == before, "it is not read again"


def repeated(unit: str, before: str = "SELECT ", after: str = "") -> str:
    """Return a statement as long as the classifier reads."""
    return before + unit * ((LONGEST - len(before) - len(after)) // len(unit)) + after


PATHOLOGICAL = [
    *(
        repeated(unit)
        for unit in ("/*", "*/", "-", "--", "''", '""', "(", "a", " ", "$", "E'", ";")
    ),
    *(repeated(unit, "SELECT /*") for unit in ("*", "/", "* /", "/ *", "a", "* ")),
    *(repeated(unit, "SELECT '") for unit in ("''", "a", "a''", "\\'")),
    *(repeated(unit, "SELECT E'") for unit in ("''", "\\'", "\\\\", "''\\'", "a")),
    *(repeated(unit, 'SELECT "') for unit in ('""', "a", 'a""')),
    *(repeated(unit, after="x") for unit in ("1", "1.", "1e", "1_", "0x", "1e-1", "$1", "1.1")),
    *(repeated(unit) for unit in ("/**/ ", "'a' ", "E'a' ", '"a" ', "1 ", "lower(", "a.")),
]
"""Statements on which an expression that backtracks would take years."""

VERDICTS = """
import json, runpy, sys
classify = runpy.run_path(sys.argv[1])["is_session_neutral"]
print(json.dumps([classify(statement) for statement in json.load(sys.stdin)]))
"""

INTERPRETERS = [sys.executable, "/usr/bin/python3"]
"""This one, and the system's: `re` of Debian 12's Python 3.11.2 has bugs of its own."""


def verdicts(interpreter: str, statements: list[str]) -> list[bool]:
    """Classify statements in a process of its own, which needs no package installed."""
    if not Path(interpreter).exists():
        pytest.skip(f"there is no {interpreter}")
    process = subprocess.run(
        [interpreter, "-I", "-c", VERDICTS, sql_classifier.__file__],
        input=json.dumps(statements),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(process.stdout)


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_each_python_comes_to_the_same_verdicts(interpreter: str) -> None:
    neutral = [item for item in NEUTRAL if isinstance(item, str)]
    other = [item for item in NOT_NEUTRAL if isinstance(item, str)]

    found = verdicts(interpreter, neutral + other)

    wrong = [
        statement
        for statement, verdict, expected in zip(
            neutral + other, found, [True] * len(neutral) + [False] * len(other), strict=True
        )
        if verdict is not expected
    ]
    assert not wrong


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_no_statement_takes_long_to_read(interpreter: str) -> None:
    """Each takes milliseconds; the time that the process may take is that of a busy machine."""
    assert all(LONGEST - 10 < len(statement) <= LONGEST for statement in PATHOLOGICAL)
    assert len(verdicts(interpreter, PATHOLOGICAL)) == len(PATHOLOGICAL)


def subclasses(base: type) -> Iterator[type]:
    for each in base.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_function_that_django_knows_is_known() -> None:
    """One that is missing would cost a round trip in each lease that uses it."""
    for module in ("functions", "search", "aggregates", "fields"):
        importlib.import_module(f"django.contrib.postgres.{module}")
    importlib.import_module("django.db.models.functions")
    names = {
        each.function.lower()
        for each in subclasses(Func)
        if each.__module__.startswith(("django.db.", "django.contrib.postgres."))
        and isinstance(getattr(each, "function", None), str)
    }
    not_on_postgresql = {"", "collate", "instr", "sha1"}
    assert names - FUNCTIONS - KEYWORDS == not_on_postgresql & names
