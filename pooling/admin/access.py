"""Page access control, also when the user database is unavailable.

Sessions and users are in a database, and its pool may be the exhausted or suspended one that has to
be operated on. So each view of the page sets an access cookie: signed, valid for some minutes, for
this page only, and bound to the session and the password. It is used only while the database cannot
be queried; otherwise the permissions are looked up for every request. The end of a session revokes
its access cookies; see `pooling.admin.revocation` for what that covers.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.core import signing
from django.db import Error, connections, router
from django.utils.crypto import constant_time_compare

from pooling.admin.revocation import LIFETIME, REVOCATIONS, SALT, digest, revoke_session
from pooling.backends.base import PooledDatabaseWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpRequest, HttpResponse

COOKIE = "pooling_access"
COOKIE_LIFETIME = LIFETIME
"""Seconds an access cookie is valid after the last look-up of the permissions."""

ACQUIRE_TIMEOUT = 2.0
"""Seconds the page waits for a connection to look up the permissions."""

SESSION_ENGINES_WITHOUT_DATABASE = (
    "django.contrib.sessions.backends.file",
    "django.contrib.sessions.backends.signed_cookies",
)
"""Session engines that can be read while the database is unavailable. The cache engine may use
Django's database cache; with it, revocations and the cookie's lifetime apply."""

VIEW, CHANGE = "pooling.view_connectionpool", "pooling.change_connectionpool"


class UserDatabaseError(Exception):
    """The permissions cannot be looked up, and the request has no valid access cookie."""


@dataclasses.dataclass(frozen=True, slots=True)
class Viewer:
    """The user who requests the page.

    Attributes:
        user_id: the primary key, as text.
        name: the username.
        may_view: whether the page may be shown.
        may_change: whether the actions are allowed.
        by_cookie: known from the access cookie: the user database must not be queried now.
    """

    user_id: str
    name: str
    may_view: bool
    may_change: bool
    by_cookie: bool = False


def authenticate(request: HttpRequest, is_admitted: Callable[[HttpRequest], bool]) -> Viewer | None:
    """Return the user of a request; None if the admin site does not admit them.

    Args:
        request: the request.
        is_admitted: whether the admin site admits its user.

    Raises:
        UserDatabaseError: this cannot be determined.
    """
    content = _read_cookie(request)
    wrapper = user_database()
    if content is not None and would_wait(wrapper):
        if not _is_over(request, content):
            return _viewer(content)
        content = None
    try:
        with _acquire_timeout(wrapper):
            if not is_admitted(request):
                if content is not None:
                    revoke_session(request)
                return None
            user: Any = request.user
            view, change = user.has_perm(VIEW), user.has_perm(CHANGE)
            return Viewer(str(user.pk), user.get_username(), view or change, change)
    except Error as error:
        if content is None or _is_over(request, content):
            raise UserDatabaseError from error
        return _viewer(content)


def user_database() -> Any:
    """Return the wrapper of the database with the users."""
    return connections[router.db_for_read(get_user_model())]


def would_wait(wrapper: Any) -> bool:
    """Tell whether a query on this database would have to wait for a connection."""
    if not isinstance(wrapper, PooledDatabaseWrapper) or wrapper.connection is not None:
        return False
    pool = wrapper.resolve_pool()
    if pool is None:
        return False
    stats = pool.stats()
    full = not stats.idle and stats.leased + stats.connecting >= stats.max_size
    return stats.suspended or full or (stats.waiting > 0 and not stats.idle)


@contextlib.contextmanager
def _acquire_timeout(wrapper: Any) -> Iterator[None]:
    if not isinstance(wrapper, PooledDatabaseWrapper):
        yield
        return
    before, wrapper.acquire_timeout = wrapper.acquire_timeout, ACQUIRE_TIMEOUT
    try:
        yield
    finally:
        wrapper.acquire_timeout = before


def release_connections() -> None:
    """Release the connections used for the look-up, so that the page does not list its own."""
    for wrapper in connections.all(initialized_only=True):
        if isinstance(wrapper, PooledDatabaseWrapper) and not wrapper.in_atomic_block:
            wrapper.close()


def set_cookie(request: HttpRequest, response: HttpResponse, viewer: Viewer, path: str) -> None:
    """Set the access cookie if the permissions of `viewer` were looked up."""
    if viewer.by_cookie or not viewer.may_view:
        return
    content = {
        "user": viewer.user_id,
        "name": viewer.name,
        "change": viewer.may_change,
        "session": _session(request),
        "auth": _auth_hash(request),
    }
    response.set_cookie(
        COOKIE,
        signing.dumps(content, salt=SALT),
        max_age=COOKIE_LIFETIME,
        path=path,
        secure=request.is_secure() or settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )


def _read_cookie(request: HttpRequest) -> dict[str, Any] | None:
    """Return the content of a valid access cookie of this session."""
    try:
        content: dict[str, Any] = signing.loads(
            request.COOKIES.get(COOKIE, ""), salt=SALT, max_age=COOKIE_LIFETIME
        )
    except signing.BadSignature:
        return None
    return content if constant_time_compare(content["session"], _session(request)) else None


def _viewer(content: dict[str, Any]) -> Viewer:
    return Viewer(
        content["user"],
        content["name"],
        may_view=True,
        may_change=content["change"],
        by_cookie=True,
    )


def _is_over(request: HttpRequest, content: dict[str, Any]) -> bool:
    """Tell whether the session of an access cookie is over, without querying the database."""
    if REVOCATIONS.is_revoked(content["session"], content["user"], content["auth"]):
        return True
    if settings.SESSION_ENGINE not in SESSION_ENGINES_WITHOUT_DATABASE:
        return False
    try:
        user_id = request.session.get(SESSION_KEY)
        return bool(str(user_id) != content["user"] or _auth_hash(request) != content["auth"])
    except Exception:  # the store of the sessions is unavailable as well
        return False


def _session(request: HttpRequest) -> str:
    """Return a digest of the session cookie."""
    return digest(request.COOKIES.get(settings.SESSION_COOKIE_NAME, ""))


def _auth_hash(request: HttpRequest) -> str:
    """Return a digest of the session's hash of the password."""
    return digest(request.session.get(HASH_SESSION_KEY, ""))
