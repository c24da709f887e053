"""Revocation of access cookies when a user session ends.

An access cookie is used while neither the session nor the user can be read. So the end of a session
is recorded where it can still be read then: in this process and in the fleet's cache. Recorded are:

- logout, and a login that replaces another session;
- a changed password, and a deactivated or deleted user;
- a request that shows, while the database answers, that the session is over.

Entries are kept as long as an access cookie may be valid. Not covered: sessions deleted in the
database without a logout, changes of users without signals (bulk updates), and, without a cache
that processes share, what happened in another process. The cookie's lifetime limits all of these.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db.models.signals import post_delete, post_save
from django.utils.crypto import salted_hmac

from pooling.core import forks
from pooling.core.worker_threads import WORKERS
from pooling.fleet.cache_store import (
    FleetError,
    close_caches,
    sees_one_process,
    usable_cache,
    with_timeout,
)
from pooling.fleet.options import fleet_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.http import HttpRequest

logger = logging.getLogger("pooling")

SALT = "pooling.admin.access"
LIFETIME = 900
"""Seconds an access cookie is valid, and a revocation is kept."""

MAX_ENTRIES = 10_000
"""Revocations kept in the process; the oldest are dropped."""

ENDED = ""
"""Recorded for a session or user that is over; for a changed password: the new digest."""


def digest(text: str) -> str:
    """Return a digest of a session key or session hash, to be stored outside of the session."""
    return salted_hmac(SALT, text, algorithm="sha256").hexdigest()


class Revocations:
    """The ended sessions and changed users of the last `LIFETIME` seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._unshared: dict[str, str] = {}
        self._sharing = False
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """Take a new lock; the parent shares its own entries."""
        self._lock = threading.Lock()
        self._unshared = {}
        self._sharing = False

    def record(self, name: str, value: str = ENDED) -> None:
        """Record a revocation here, and in the shared cache by a worker.

        Does not block, and raises nothing: it is called while users are saved and log out.
        """
        try:
            self._record(name, value, shared=not sees_one_process())
        except Exception:
            logger.exception("an ended session cannot be recorded")

    def _record(self, name: str, value: str, *, shared: bool) -> None:
        now = self._now()
        with self._lock:
            self._entries.pop(name, None)
            self._entries[name] = (now + LIFETIME, value)
            while len(self._entries) > MAX_ENTRIES or next(iter(self._entries.values()))[0] < now:
                old, _ = self._entries.popitem(last=False)
                self._unshared.pop(old, None)
            if shared:
                self._unshared[name] = value
            start = shared and not self._sharing
            self._sharing = self._sharing or start
        if start:
            try:
                WORKERS.run(self._share)
            except BaseException:
                self._sharing = False
                raise

    def _share(self) -> None:
        """Write entries to the cache until none is left; one worker at a time does this."""
        while True:
            with self._lock:
                entries, self._unshared = self._unshared, {}
                self._sharing = bool(entries)
            if not entries:
                return
            try:
                cache, _ = usable_cache(fleet_options())
                if cache is not None:
                    cache.set_many({_key(name): entries[name] for name in entries}, LIFETIME)
            except Exception as error:
                kind = type(error).__name__
                logger.warning("ended sessions cannot be written to the cache: %s", kind)
            finally:
                close_caches()

    def is_revoked(self, session: str, user_id: str, auth_hash: str) -> bool:
        """Tell whether a cookie is revoked. Waits for the cache, but not longer than its timeout.

        If the cache fails, only the revocations of this process are known.

        Args:
            session: digest of the session cookie.
            user_id: primary key of the user.
            auth_hash: digest of the session hash, which a changed password changes.
        """
        names = (_session_name(session), _user_name(user_id))
        now = self._now()
        with self._lock:
            found = [self._entries.get(name, (0.0, None)) for name in names]
        ended, changed = (value if until >= now else None for until, value in found)
        if ended is None and not sees_one_process():
            try:
                shared = with_timeout(lambda: _read(names))
            except FleetError as error:
                logger.warning("revoked access cookies cannot be read: %s", error)
            else:
                ended, changed = shared[0], shared[1] if shared[1] is not None else changed
        return ended is not None or changed not in (None, auth_hash)


REVOCATIONS = Revocations()
"""The process's revocations."""


def revoke_session(request: HttpRequest) -> None:
    """Revoke the access cookies of a request's session."""
    session = getattr(request, "session", None)
    cookie = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    for key in {cookie, getattr(session, "session_key", None)} - {None, ""}:
        REVOCATIONS.record(_session_name(digest(str(key))))


def connect_signals() -> None:
    """Record ended sessions and changed users of this process from now on."""
    uid = "pooling.admin.revocation"
    user_logged_out.connect(_logged_out, dispatch_uid=uid)
    user_logged_in.connect(_logged_in, dispatch_uid=uid)
    post_save.connect(_user_saved, sender=get_user_model(), dispatch_uid=uid)
    post_delete.connect(_user_deleted, sender=get_user_model(), dispatch_uid=uid)


def _logged_out(request: HttpRequest | None = None, **_: Any) -> None:
    if request is not None:
        revoke_session(request)


def _logged_in(request: HttpRequest | None = None, **_: Any) -> None:
    """Revoke the session that a login replaced: its key is still in the request's cookie."""
    if request is None:
        return
    cookie = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if cookie and cookie != getattr(request.session, "session_key", None):
        REVOCATIONS.record(_session_name(digest(cookie)))


def _user_saved(instance: Any, created: bool = False, update_fields: Any = None, **_: Any) -> None:
    if created:
        return
    if not getattr(instance, "is_active", True):
        REVOCATIONS.record(_user_name(str(instance.pk)))
    elif _may_have_new_password(instance, update_fields):
        auth_hash = digest(getattr(instance, "get_session_auth_hash", lambda: "")())
        REVOCATIONS.record(_user_name(str(instance.pk)), auth_hash)


def _may_have_new_password(user: Any, update_fields: Any) -> bool:
    if update_fields is not None:
        return "password" in update_fields
    # `_password` is a new raw password until Django's `save` has sent the signal.
    usable = getattr(user, "has_usable_password", lambda: True)()
    return getattr(user, "_password", None) is not None or not usable


def _user_deleted(instance: Any, **_: Any) -> None:
    REVOCATIONS.record(_user_name(str(instance.pk)))


def _read(names: Sequence[str]) -> list[str | None]:
    cache, _ = usable_cache(fleet_options())
    if cache is None:
        return [None for _ in names]
    found = cache.get_many([_key(name) for name in names])
    return [found.get(_key(name)) for name in names]


def _session_name(session: str) -> str:
    return f"session:{session}"


def _user_name(user_id: str) -> str:
    return f"user:{digest(user_id)}"


def _key(name: str) -> str:
    return f"{fleet_options().prefix}:access:{name}"
