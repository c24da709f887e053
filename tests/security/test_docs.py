"""The pages on security and on sessions say what is so."""

from __future__ import annotations

import re

import pytest

from pooling.backends.postgresql import session_tracking, sql_classifier
from tests.security.conftest import REPOSITORY

SECURITY, SESSIONS = (REPOSITORY / f"docs/{name}.md" for name in ("security", "sessions"))


def proofs() -> list[tuple[str, str]]:
    """Return the tests that the page on security names: files, and functions in them."""
    return sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", SECURITY.read_text())))


@pytest.mark.parametrize(("file", "name"), proofs())
def test_every_proof_exists(file: str, name: str) -> None:
    path = REPOSITORY / file
    assert path.is_file()
    assert not name or f"\ndef {name}(" in path.read_text()


def test_there_is_a_proof_for_most_of_it() -> None:
    assert len(proofs()) > 20


def test_the_message_that_restores_a_session_is_told() -> None:
    told = " ".join(re.findall(r"`(CLOSE ALL;.+?)`", SESSIONS.read_text(), re.DOTALL)[0].split())
    assert told == session_tracking.RESTORE_SESSION.strip().rstrip(";").replace("pg_catalog.", "")


def test_the_bounds_of_reading_statements_are_told() -> None:
    assert f"more than {sql_classifier.LONGEST} characters" in SESSIONS.read_text()
    assert f"at most {sql_classifier.CACHE_SIZE:,} entries" in SECURITY.read_text()
