"""SQL classifier: decide whether a statement can change the session that runs it."""

from __future__ import annotations

import re
from functools import lru_cache

LONGEST = 8192
"""Longer statements (in characters) are not parsed: resetting the session costs less."""

CACHE_SIZE = 1024
"""Size of the result cache: an application repeats the same statements."""

FIRST_WORDS = frozenset(
    {
        *("abort", "begin", "close", "commit", "copy", "delete", "end", "explain", "fetch"),
        *("insert", "lock", "merge", "move", "notify", "release", "rollback", "savepoint"),
        *("select", "show", "start", "table", "update", "values", "with"),
    }
)
"""First words of neutral statements. For `SET` see `TRANSACTION_SCOPED`."""

TRANSACTION_SCOPED = frozenset({"local", "transaction", "constraints"})
"""What follows `SET` when its effect ends with the transaction, or has none outside of one."""

UNSAFE_WORDS = frozenset(
    {
        *("create", "declare", "execute", "prepare", "prepared", "uescape"),
        *("pg_settings", '"pg_settings"'),
    }
)
"""Words that no neutral statement contains: statements inside another one (`EXPLAIN ANALYZE CREATE
...`), the end of an escaped name, and the view whose `UPDATE` rule calls `set_config`. A column
with such a name only costs an unnecessary reset."""

NOT_FUNCTIONS = {
    "syntax": (
        "all and any array as between by case cast check coalesce conflict copy cube current_time "
        "current_timestamp distinct else except exists explain extract filter from greatest group "
        "grouping having in intersect interval join key lateral least like ilike limit localtime "
        "localtimestamp materialized normalize not nullif offset on or order over overlaps "
        "overlay partition position recursive returning rollup row select set sets similar some "
        "substring table tablesample then to trim union unique using values when where window "
        "with bernoulli system"
    ),
    "types with a length or a precision": (
        "bit bpchar char character dec decimal float nchar numeric time timestamp timestamptz "
        "timetz varbit varchar varying"
    ),
}
"""Words before a parenthesis that are not the names of user-defined functions."""
KEYWORDS = frozenset(" ".join(NOT_FUNCTIONS.values()).split())

NEUTRAL_FUNCTIONS = {
    "numbers": (
        "abs acos acosd asin atan atan2 cbrt ceil ceiling cos cot degrees div exp factorial floor "
        "gcd lcm ln log log10 mod pi power radians random round sign sin sqrt tan trunc "
        "width_bucket"
    ),
    "texts": (
        "ascii bit_length btrim char_length character_length chr concat concat_ws convert_from "
        "convert_to decode encode format initcap left length lower lpad ltrim md5 octet_length "
        "quote_ident quote_literal quote_nullable regexp_count regexp_like regexp_match "
        "regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table repeat replace "
        "reverse right rpad rtrim sha224 sha256 sha384 sha512 split_part starts_with "
        "string_to_array strpos substr to_char to_hex to_number translate unistr upper"
    ),
    "times": (
        "age clock_timestamp date_bin date_part date_trunc isfinite justify_days justify_hours "
        "justify_interval make_date make_interval make_time make_timestamp make_timestamptz now "
        "statement_timestamp timeofday timezone to_date to_timestamp transaction_timestamp"
    ),
    "aggregates and windows": (
        "any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop "
        "covar_samp cume_dist dense_rank every first_value lag last_value lead max min mode "
        "nth_value ntile percent_rank percentile_cont percentile_disc range_agg rank regr_avgx "
        "regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy "
        "row_number stddev stddev_pop stddev_samp string_agg sum var_pop var_samp variance"
    ),
    "arrays, ranges and rows": (
        "array_append array_cat array_dims array_fill array_length array_lower array_ndims "
        "array_position array_positions array_prepend array_remove array_replace array_to_string "
        "array_upper cardinality daterange generate_series generate_subscripts int4range "
        "int8range isempty lower_inc lower_inf num_nonnulls num_nulls numrange range_merge "
        "trim_array tsrange tstzrange unnest upper_inc upper_inf"
    ),
    "JSON": (
        "json_agg json_array json_array_elements json_array_elements_text json_array_length "
        "json_build_array json_build_object json_each json_each_text json_extract_path "
        "json_extract_path_text json_object json_object_agg json_object_keys json_query "
        "json_scalar json_strip_nulls json_to_record json_to_recordset json_typeof json_value "
        "jsonb_agg jsonb_array_elements jsonb_array_elements_text jsonb_array_length "
        "jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path "
        "jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_agg jsonb_object_keys "
        "jsonb_path_exists jsonb_path_match jsonb_path_query jsonb_path_query_array "
        "jsonb_path_query_first jsonb_pretty jsonb_set jsonb_strip_nulls jsonb_to_record "
        "jsonb_to_recordset jsonb_typeof row_to_json to_json to_jsonb"
    ),
    "text search": (
        "phraseto_tsquery plainto_tsquery querytree setweight similarity strict_word_similarity "
        "strip to_tsquery to_tsvector ts_headline ts_rank ts_rank_cd unaccent "
        "websearch_to_tsquery word_similarity"
    ),
    "other extensions that come with PostgreSQL and that Django knows": (
        "akeys avals digest each hmac crypt gen_salt gen_random_bytes gen_random_uuid "
        "uuid_generate_v4 uuidv4 uuidv7"
    ),
    "the server, and what introspection asks": (
        "col_description current_database current_schema current_schemas current_setting "
        "format_type has_schema_privilege has_table_privilege obj_description pg_backend_pid "
        "pg_cancel_backend pg_database_size pg_encoding_to_char pg_get_constraintdef pg_get_expr "
        "pg_get_indexdef pg_get_serial_sequence pg_get_userbyid pg_get_viewdef pg_is_in_recovery "
        "pg_notify pg_relation_size pg_size_pretty pg_sleep pg_table_is_visible pg_table_size "
        "pg_terminate_backend pg_total_relation_size pg_typeof shobj_description to_regclass "
        "to_regtype txid_current version"
    ),
    "what ends with the transaction, or belongs to the database": (
        "currval lastval nextval setval pg_advisory_xact_lock pg_advisory_xact_lock_shared "
        "pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared"
    ),
}
"""Functions of PostgreSQL and its extensions that do not change the session: those that Django's
queries use, and similar ones. Any other may call `set_config` or lock, and counts as if it did. So
do those that run SQL they are given as text (`ts_rewrite`, `ts_stat`, `query_to_xml`)."""
FUNCTIONS = frozenset(" ".join(NEUTRAL_FUNCTIONS.values()).split())

TOKEN = re.compile(
    r"""
      (?P<space> [ \t\n\r\f\v]+ | --[^\r\n]* | /\*[^*/]*(?:(?:\*(?!/)|/(?!\*))[^*/]*)*\*/ )
    | (?P<text> [eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'(?!') | '[^'\\]*(?:''[^'\\]*)*'(?!') )
    | "(?P<name> (?:[^"\\]|"")[^"\\]*(?:""[^"\\]*)* )"(?!")
    | (?P<word> [^\W0-9][\w$]* )
    | (?P<number> (?:0[xX][0-9a-fA-F]+|[0-9][0-9_.]*(?:[eE][-+]?[0-9]+)?|\$[0-9]+)(?![\w$]) )
    | (?P<mark> (?!/\*)[-+*/<>=~!@#%^&|?:.,;()\[\]] )
    """,
    re.VERBOSE | re.DOTALL,
)
"""The parts of a statement, as PostgreSQL divides it. What is written in another way (dollar
quotes, nested comments, backslashes outside of E'', `1abc`) matches nothing: then the statement is
not neutral.

Each repetition begins with a character that what stands before it excludes, so a statement that
does not match is given up in linear time. Possessive quantifiers would say so themselves, but those
of Python 3.11.2, which is Debian 12's, do not match around a lookahead."""

NOT_A_NAME = frozenset("-+*/<>=~!@#%^&|?:.,;()[]'0")
"""First characters of the parts that are neither words nor quoted names."""


def is_session_neutral(statement: object) -> bool:
    """Return True if a statement changes nothing in the session that outlives its transaction.

    False means "unknown". Not seen is what a statement calls without naming it: triggers, views,
    operators, user-defined functions with a name in `FUNCTIONS`, and SQL that the driver inserts
    for a parameter (psycopg2's `AsIs`).
    """
    if isinstance(statement, bytes) and statement.isascii():
        statement = statement.decode()
    if not isinstance(statement, str) or len(statement) > LONGEST:
        return False
    return _is_session_neutral(statement)


CHANGES = (
    ("temporary table", r"\btemp(orary)?\b"),
    ("advisory lock", r"_advisory_(un)?lock"),
    ("set_config()", r"\bset_config\b"),
    ("cursor WITH HOLD", r"\bdeclare\b"),
    ("SET", r"^\s*(set|reset|discard)\b"),
    ("LISTEN", r"^\s*(un)?listen\b"),
    ("PREPARE", r"^\s*(prepare|deallocate|execute)\b"),
    ("DDL", r"^\s*(create|alter|drop|comment|grant|revoke|truncate|reindex)\b"),
)
"""What a statement that is not neutral may do, in the order in which it is looked for."""


def change_of(statement: object) -> str:
    """Say in a few words what a statement that is not neutral may do to the session."""
    text = str(statement)[:LONGEST].lower()
    for change, pattern in CHANGES:
        if re.search(pattern, text):
            return change
    return "unclassified statement"


@lru_cache(CACHE_SIZE)
def _is_session_neutral(statement: str) -> bool:
    parts = _parts(statement)
    if parts is None:
        return False
    words = [part for part in parts if part != "("]
    first, second = [*words, "", ""][:2]
    if first not in FIRST_WORDS and not (first == "set" and second in TRANSACTION_SCOPED):
        return False
    return UNSAFE_WORDS.isdisjoint(words) and _calls_are_neutral(parts)


def _parts(statement: str) -> list[str] | None:
    """Split a statement into words in lower case, quoted names and marks; None if that fails.

    Texts become `''`, numbers `0`; spaces, comments and a last semicolon are left out.
    """
    parts: list[str] = []
    position, end = 0, len(statement)
    while position < end:
        found = TOKEN.match(statement, position)
        if found is None:
            return None
        position = found.end()
        kind, part = found.lastgroup, found.group()
        if kind == "space":
            continue
        if parts and parts[-1] == ";":
            return None  # a second statement
        if kind == "word":
            part = part.lower()
        elif kind == "text":
            part = "''"
        elif kind == "number":
            part = "0"
        parts.append(part)
    return parts[:-1] if parts and parts[-1] == ";" else parts


def _calls_are_neutral(parts: list[str]) -> bool:
    """Return False if a part may call an unknown function or make a table (`SELECT ... INTO`)."""
    target = -1
    """Index of the last part of the target table's name: a list of columns may follow."""
    for index, part in enumerate(parts):
        if part == "into":
            if index == 0 or parts[index - 1] not in ("insert", "merge"):
                return False
            target = index + 1
            while parts[target + 1 : target + 2] == ["."]:
                target += 2
        elif part == "(" and index and index - 1 != target and not _may_open(parts, index - 1):
            return False
    return True


def _may_open(parts: list[str], index: int) -> bool:
    """Return True if a parenthesis after the part at `index` calls no unknown function."""
    part = parts[index]
    if part[0] in NOT_A_NAME:
        return True
    if index and parts[index - 1] == ".":
        return parts[index - 2] == "pg_catalog" and part in FUNCTIONS
    return part in KEYWORDS or part.removeprefix('"').removesuffix('"') in FUNCTIONS


READ_WORDS = frozenset({"select", "with", "values"})
"""First words of statements that may be plain reads."""

NOT_PLAIN = frozenset(
    {
        *("insert", "update", "delete", "merge", "into", "share", "lock", "copy", "call", "do"),
        *("truncate", "refresh", "notify", "explain", "show", "table"),
        *("nextval", "setval", "currval", "lastval", "pg_notify", "current_setting"),
        *("pg_advisory_xact_lock", "pg_advisory_xact_lock_shared"),
        *("pg_try_advisory_xact_lock", "pg_try_advisory_xact_lock_shared"),
        *("pg_cancel_backend", "pg_terminate_backend", "txid_current"),
    }
)
"""Words that no plain read contains: those of writes and locks (`FOR UPDATE`, `FOR SHARE`), and the
neutral functions that do something, or tell of the session. A column of such a name, if it is not
quoted or if the name is a function's, only makes the statement an ordinary one."""

PLAIN_TYPES = frozenset(
    {
        *("bool", "bytes", "bytearray", "memoryview", "float", "int", "NoneType", "str"),
        *("date", "datetime", "time", "timedelta", "Decimal", "UUID", "SafeString"),
        *("Json", "Jsonb", "Inet", "IPv4Address", "IPv6Address"),
        *("Int2", "Int4", "Int8", "IntNumeric"),  # psycopg's, in which Django wraps integers
    }
)
"""Classes of parameters that a driver turns into values. What others become is not known:
psycopg2's `AsIs` is SQL."""


def is_plain_read(statement: object, params: object = None) -> bool:
    """Return True if a statement only reads, so that running it twice is as good as once.

    False means "unknown". Not seen is what it calls without naming it: views, row security,
    operators, casts, and functions written like a column (`("row").function`).
    """
    if not isinstance(statement, str) or not is_session_neutral(statement):
        return False
    return _is_plain_read(statement) and _are_plain(params)


@lru_cache(CACHE_SIZE)
def _is_plain_read(statement: str) -> bool:
    parts = _parts(statement) or []
    first = next((part for part in parts if part != "("), "")
    return first in READ_WORDS and NOT_PLAIN.isdisjoint(
        part.removeprefix('"').removesuffix('"') if _is_function_name(part) else part
        for part in parts
    )


def _is_function_name(part: str) -> bool:
    return part[:1] == '"' and part[1:-1] in FUNCTIONS


def _are_plain(params: object) -> bool:
    if isinstance(params, dict):
        params = list(params.values())
    if isinstance(params, (list, tuple)):
        return all(map(_are_plain, params))
    return type(params).__name__ in PLAIN_TYPES
