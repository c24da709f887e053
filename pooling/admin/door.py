"""Who may see the page, and how it comes when the database that would tell is the one in trouble.

Sessions and users are in a database, and its pool may be the exhausted one, or the suspended one
that somebody wants to resume. So whoever was let in gets a pass: a signed cookie, good for some
minutes, for this page only, and only together with the session cookie it was issued to. While the
database answers, the pass counts for nothing: the permissions are looked up every time.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import signing
from django.db import Error, connections, router
from django.utils.crypto import constant_time_compare, salted_hmac

from pooling.backends.base import PooledDatabaseWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpRequest, HttpResponse

COOKIE = "pooling_pass"
SALT = "pooling.admin.pass"
LIFETIME = 900
"""Seconds a pass is good for, after the last time that the permissions were looked up."""

PATIENCE = 2.0
"""Seconds the page waits for a connection to look up permissions."""

VIEW, CHANGE = "pooling.view_connectionpool", "pooling.change_connectionpool"


class DatabaseAwayError(Exception):
    """The permissions cannot be looked up, and there is no pass."""


@dataclasses.dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody at the door.

    Attributes:
        user_id: the primary key, as text.
        name: the username.
        may_view: whether the page may be shown.
        may_change: whether the actions are allowed.
        by_pass: the database could not be asked; nothing may be asked of it now.
    """

    user_id: str
    name: str
    may_view: bool
    may_change: bool
    by_pass: bool = False


def recognise(request: HttpRequest, is_admitted: Callable[[HttpRequest], bool]) -> Visitor | None:
    """Return who asks; None if it is nobody that the admin knows.

    Args:
        request: what is asked.
        is_admitted: whether the admin site lets its user in at all.

    Raises:
        DatabaseAwayError: it cannot be found out.
    """
    known = _read_pass(request)
    wrapper = user_database()
    if known is not None and is_in_trouble(wrapper):
        return known
    try:
        with _patience(wrapper):
            if not is_admitted(request):
                return None
            user: Any = request.user
            view, change = user.has_perm(VIEW), user.has_perm(CHANGE)
            return Visitor(str(user.pk), user.get_username(), view or change, change)
    except Error as error:
        if known is None:
            raise DatabaseAwayError from error
        return known


def user_database() -> Any:
    """Return the wrapper of the database that knows the users."""
    return connections[router.db_for_read(get_user_model())]


def is_in_trouble(wrapper: Any) -> bool:
    """Tell whether it is clear beforehand that asking this database would mean to wait."""
    if not isinstance(wrapper, PooledDatabaseWrapper) or wrapper.connection is not None:
        return False
    pool = wrapper.resolve_pool()
    if pool is None:
        return False
    stats = pool.stats()
    full = not stats.idle and stats.leased + stats.connecting >= stats.max_size
    return stats.suspended or full or (stats.waiting > 0 and not stats.idle)


@contextlib.contextmanager
def _patience(wrapper: Any) -> Iterator[None]:
    if not isinstance(wrapper, PooledDatabaseWrapper):
        yield
        return
    before, wrapper.acquire_timeout = wrapper.acquire_timeout, PATIENCE
    try:
        yield
    finally:
        wrapper.acquire_timeout = before


def leave_database_alone() -> None:
    """Give back what looking up the permissions needed, so that the page does not show itself."""
    for wrapper in connections.all(initialized_only=True):
        if isinstance(wrapper, PooledDatabaseWrapper) and not wrapper.in_atomic_block:
            wrapper.close()


def give_pass(request: HttpRequest, response: HttpResponse, visitor: Visitor, path: str) -> None:
    """Let the visitor in again while the database is away."""
    if visitor.by_pass or not visitor.may_view:
        return
    content = {
        "user": visitor.user_id,
        "name": visitor.name,
        "change": visitor.may_change,
        "session": _session(request),
    }
    response.set_cookie(
        COOKIE,
        signing.dumps(content, salt=SALT),
        max_age=LIFETIME,
        path=path,
        secure=request.is_secure() or settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )


def _read_pass(request: HttpRequest) -> Visitor | None:
    try:
        content = signing.loads(request.COOKIES.get(COOKIE, ""), salt=SALT, max_age=LIFETIME)
    except signing.BadSignature:
        return None
    if not constant_time_compare(content["session"], _session(request)):
        return None
    return Visitor(
        content["user"], content["name"], may_view=True, may_change=content["change"], by_pass=True
    )


def _session(request: HttpRequest) -> str:
    """Return a fingerprint of the session cookie: who logs out leaves the pass worthless."""
    cookie = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
    return salted_hmac(SALT, cookie, algorithm="sha256").hexdigest()
