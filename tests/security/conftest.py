"""Secrets that were planted, and databases to plant them in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import TracebackType

REPOSITORY = Path(__file__).resolve().parents[2]

SECRET = "Gehe1m-p@ss'w\"or%d\\7"
"""With every character that somebody might escape, so that parts of it would be found as well."""
PLAIN = "geheimnis-eleven-11"
"""One that reads the same in every encoding: JSON, HTML, URLs, reprs."""


@pytest.fixture
def planted(role: str, postgresql: object) -> str:
    """A role whose password is `PLAIN`."""
    postgresql.execute(f"ALTER ROLE {role} PASSWORD '{PLAIN}'")  # type: ignore[attr-defined]
    return role


def assert_clean(*texts: object) -> None:
    """Fail if a secret is in what somebody could read, without printing it all over the place."""
    for text in texts:
        for secret in (PLAIN, SECRET, repr(SECRET)[1:-1]):
            assert secret not in str(text), "a secret came out"
            assert secret not in repr(text), "a secret came out"


def causes(error: BaseException | None) -> list[BaseException]:
    """Return an error and all that led to it."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def frames_of(traceback: TracebackType | None) -> list[dict[str, object]]:
    """Return the local variables of those frames of a traceback that are the package's own."""
    found = []
    while traceback is not None:
        if "/pooling/" in traceback.tb_frame.f_code.co_filename:
            found.append(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next
    return found
