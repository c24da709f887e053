"""SQL classifier: decide whether a statement can change the session that runs it.

The drivers put parameters into the text before they send it, so literals are taken out first.
"""

from __future__ import annotations

import re

LONGEST = 65_536
"""Longer statements (in characters) are not parsed: resetting the session costs less."""

ROWS = frozenset(
    {
        *("delete", "desc", "describe", "do", "explain", "insert", "replace", "select", "show"),
        *("table", "update", "values", "with", "savepoint"),
    }
)
"""First words of statements that neither begin nor end a transaction."""

ENDS = frozenset({"commit", "rollback"})
NEUTRAL_FIRST_WORDS = (ROWS | ENDS | {"begin", "start", "release"}) - {"do"}
"""First words of statements that change nothing outside of their transaction."""

FUNCTIONS = {
    "syntax": (
        "all and any as between by case check collate conflict cross cube delayed distinct "
        "distinctrow div duplicate else except exists explain from group having ignore in index "
        "inner intersect interval into is join key lateral left like limit mod natural not of "
        "offset on or order outer over partition primary recursive regexp returning right rlike "
        "rollup row rows select set some straight_join then to union unique update using value "
        "values when where window with xor"
    ),
    "types": "binary char character date datetime decimal float signed time unsigned varchar year",
    "aggregates": (
        "avg bit_and bit_or bit_xor count cume_dist dense_rank first_value group_concat "
        "json_arrayagg json_objectagg lag last_value lead max min nth_value ntile percent_rank "
        "rank row_number std stddev stddev_pop stddev_samp sum var_pop var_samp variance"
    ),
    "numbers": (
        "abs acos asin atan atan2 ceil ceiling conv cos cot crc32 degrees exp floor format ln log "
        "log10 log2 oct pi pow power radians rand round sign sin sqrt tan truncate"
    ),
    "texts": (
        "ascii bin bit_length char_length character_length concat concat_ws elt field find_in_set "
        "from_base64 hex insert instr lcase length locate lower lpad ltrim md5 mid octet_length "
        "ord position quote regexp_instr regexp_like regexp_replace regexp_substr repeat reverse "
        "rpad rtrim sha sha1 sha2 soundex space strcmp substr substring substring_index "
        "to_base64 trim ucase unhex upper weight_string"
    ),
    "dates": (
        "addtime convert_tz curdate current_date current_time current_timestamp curtime date_add "
        "date_format date_sub datediff day dayname dayofmonth dayofweek dayofyear extract "
        "from_days from_unixtime hour last_day localtime localtimestamp makedate maketime "
        "microsecond minute month monthname now period_add period_diff quarter sec_to_time second "
        "str_to_date subtime sysdate time_format time_to_sec timediff timestamp timestampadd "
        "timestampdiff to_days to_seconds unix_timestamp utc_date utc_time utc_timestamp week "
        "weekday weekofyear yearweek"
    ),
    "others": (
        "any_value cast coalesce connection_id convert database default found_rows greatest if "
        "ifnull inet6_aton inet6_ntoa inet_aton inet_ntoa isnull json_array json_contains "
        "json_contains_path json_extract json_insert json_keys json_length json_merge_patch "
        "json_merge_preserve json_object json_overlaps json_quote json_remove json_replace "
        "json_search json_set json_type json_unquote json_valid json_value least match nullif "
        "row_count schema session_user system_user user uuid version current_user"
    ),
}
"""Words before a parenthesis that are not the names of stored functions."""
KNOWN = frozenset(" ".join(FUNCTIONS.values()).split())

_LITERALS = re.compile(r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`(?:[^`]|``)*`", re.DOTALL)
_LITERALS_NO_ESCAPES = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`")
"""The same with the SQL mode NO_BACKSLASH_ESCAPES, which the classifier is not told."""
_COMMENT = re.compile(r"/\*(?!M?!).*?\*/", re.DOTALL)
_TARGET = re.compile(r"^(?:insert|replace)\b[^(]*?\binto\s+[\w.$]+\s*\(")
_WORD = re.compile(r"[a-z]+")
_CALL = re.compile(r"([\w$]+)\s*\(")
_SUSPECT = re.compile(
    r"(?<!@)@(?!@)|['\"`#;\\]|/\*|--\s"
    r"|\b(?:get_lock|into\s+(?:outfile|dumpfile)|xa|procedure|no_release|chain)\b"
    r"|\brelease\b(?!\s+savepoint)"
)
"""User variables, what may be another statement, and what a neutral statement cannot contain."""
_MAY_BEGIN = re.compile(r"autocommit|\bstatement\b|/\*", re.IGNORECASE)
"""With which SET may begin a transaction: also for another statement, `SET STATEMENT ... FOR`."""


def first_word(statement: str | bytes | bytearray) -> str:
    """Return the first word of a statement, in lower case; "" if it begins with something else."""
    head = statement[:200].lstrip()
    text = head if isinstance(head, str) else head.decode("latin-1")
    while text.startswith("/*") and (found := _COMMENT.match(text)):
        text = text[found.end() :].lstrip()
    while text.startswith("("):
        text = text[1:].lstrip()
    word = _WORD.match(text.lower())
    return "" if word is None else word[0]


def keeps_transaction(statement: str | bytes | bytearray) -> bool:
    """Tell whether a statement, with autocommit on, certainly leaves no transaction open."""
    word = first_word(statement)
    if word == "set" and _MAY_BEGIN.search(_text(statement)):
        return False
    return (word == "set" or word in ROWS) and is_one_statement(statement)


def is_one_statement(statement: str | bytes | bytearray) -> bool:
    """Tell whether a text is certainly one statement."""
    text = _text(statement)
    at = text.find(";")
    if at < 0 or not text[at + 1 :].strip():
        return True
    return all(_is_one(literals.sub("q", text)) for literals in (_LITERALS, _LITERALS_NO_ESCAPES))


def ends_transaction(statement: str | bytes | bytearray) -> bool:
    """Tell whether a statement is a plain COMMIT or ROLLBACK."""
    return len(statement) < 20 and _text(statement).strip(" ;\n").lower() in ENDS


def is_session_neutral(statement: object) -> bool:
    """Tell whether a statement certainly changes nothing that outlives its transaction."""
    if not isinstance(statement, (str, bytes, bytearray)) or len(statement) > LONGEST:
        return False
    word = first_word(statement)
    if word not in NEUTRAL_FIRST_WORDS:
        return False
    text = _text(statement)
    return _is_neutral(text, _LITERALS) and (
        "\\" not in text or _is_neutral(text, _LITERALS_NO_ESCAPES)
    )


def change_of(statement: object) -> str:
    """Return what a statement may change, in a few words without its content."""
    if not isinstance(statement, (str, bytes, bytearray)):
        return "statement that is not text"
    word = first_word(statement).upper()
    return f"{word} statement" if word.lower() in COMMON else "unknown statement"


COMMON = frozenset(
    {
        *NEUTRAL_FIRST_WORDS,
        *("alter", "call", "create", "do", "drop", "execute", "flush", "handler", "kill", "load"),
        *("lock", "prepare", "rename", "set", "truncate", "unlock", "use", "xa"),
    }
)

RESETTABLE_FIRST_WORDS = frozenset({*NEUTRAL_FIRST_WORDS, "do", "lock", "unlock", "truncate"})
_ROLE = re.compile(r"\b(role|password|global|persist)\b|;|/\*", re.IGNORECASE)


def is_resettable(statement: object) -> bool:
    """Tell whether resetting the connection certainly undoes a statement."""
    if not isinstance(statement, (str, bytes, bytearray)) or len(statement) > LONGEST:
        return False
    text = _text(statement)
    word = first_word(text)
    if word in ("set", "prepare", "create", "drop", "alter"):
        return _ROLE.search(text) is None
    return word in RESETTABLE_FIRST_WORDS


def _text(statement: str | bytes | bytearray) -> str:
    return statement if isinstance(statement, str) else statement.decode("latin-1")


def _is_one(rest: str) -> bool:
    return ";" not in rest.rstrip("; \n") and not any(mark in rest for mark in "'\"`")


def _is_neutral(text: str, literals: re.Pattern[str]) -> bool:
    # `q` in the place of a quoted name or text: before a parenthesis it is an unknown function.
    rest = _COMMENT.sub(" ", literals.sub("q", text)).lower().strip().rstrip(";")
    if _SUSPECT.search(rest):
        return False
    rest = _TARGET.sub("(", rest)
    return all(name in KNOWN for name in _CALL.findall(rest))
