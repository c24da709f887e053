"""ReplicaRouter: read from replicas that answer and are close enough, and from the primary else.

    DATABASE_ROUTERS = ["pooling.routers.ReplicaRouter"]
    POOLING = {"replicas": {"default": ["replica"]}}

docs/replicas.md says what is read where, and what that costs.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.signals import request_finished, request_started
from django.db import DEFAULT_DB_ALIAS, connections

from pooling.backends.driver import driver_of
from pooling.backends.postgresql.sql_classifier import is_plain_read
from pooling.core.errors import PoolTimeout, TooManyWaiters
from pooling.core.worker_threads import WORKERS
from pooling.formatting import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import Model

    from pooling.core.pool import Pool

logger = logging.getLogger("pooling")

PROBE_EVERY = 0.5
"""Seconds between two probes of a replica, while it is asked for."""
PROBE_TIMEOUT = 5.0
"""Seconds that a probe waits for a connection; a result that is older than this counts no more."""
CONNECT_TIMEOUT = 1.0
"""Seconds that a read waits for a first connection to a replica before it goes elsewhere."""

MAX_REPLICA_LAG = 10.0
STICK_SECONDS = 5.0

LAG = """\
SELECT coalesce(CASE
    WHEN NOT pg_is_in_recovery() THEN 0
    WHEN pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn()
        AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0
    ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
END, -1)::float8"""
"""How many seconds a standby is behind; -1 if that cannot be told. A standby that has applied all
it has received is up to date only while it is connected to its primary."""

_CONTROLS = ("savepoint", "release savepoint", "rollback to savepoint")


class _Work:
    """A request, a task, or the work of a thread between them: what it has written, and when."""

    __slots__ = ("depth", "written")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        """How many requests and tasks it is, one inside the other; 0 for other work."""
        self.written: dict[str, float] = {}
        """When it last wrote, by the alias of the primary."""

    def reads_primary(self, alias: str, stick_seconds: float) -> bool:
        """Tell whether it has to read from a primary what it may have written there."""
        since = self.written.get(alias)
        if since is None:
            return False
        return self.depth > 0 or time.monotonic() - since < stick_seconds


_WORK: ContextVar[_Work | None] = ContextVar("pooling_replicas_work", default=None)


def current_work() -> _Work:
    """Return the work of the present context."""
    work = _WORK.get()
    if work is None:
        work = _Work(0)
        _WORK.set(work)
    return work


def begin_work() -> _Work:
    """Begin a request, in which nothing was written yet. Contexts copied from now on share it."""
    work = _Work(1)
    _WORK.set(work)
    return work


def use_primary(*aliases: str) -> None:
    """Read from these primaries (all of them if none is named) for the rest of the request.

    For what the router cannot see, such as a write by another service. Outside of requests and
    tasks it holds for `stick_seconds`.
    """
    now = time.monotonic()
    work = current_work()
    for alias in aliases or _option("replicas", {}):
        work.written[alias] = now


def has_written() -> bool:
    """Tell whether the request, as far as it has come, has written to a primary."""
    return bool(current_work().written)


def stick_seconds() -> float:
    """Return for how long after a write its client reads from the primary."""
    return float(_option("stick_seconds", STICK_SECONDS))


class _Replica:
    """What is known of a replica, in this process."""

    __slots__ = ("alias", "asked_at", "is_probed", "known_at", "lag", "problem")

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.asked_at = -1e9
        """When the last probe began."""
        self.is_probed = False
        """Whether a probe is under way."""
        self.known_at = -1e9
        """When the last probe ended."""
        self.lag: float | None = None
        """By how many seconds it was behind then; None if it may not be used."""
        self.problem: str | None = None
        """Why it is left out."""

    def is_probe_due(self, now: float) -> bool:
        """Tell whether to probe it. A probe that has taken long is lost, perhaps by a fork."""
        return now - self.asked_at >= (2 * PROBE_TIMEOUT if self.is_probed else PROBE_EVERY)

    def probe(self, pool: Pool[Any], max_lag: float) -> None:
        """Ask a replica how far it is behind its primary. Runs in a worker."""
        try:
            lease = pool.acquire(PROBE_TIMEOUT, note="probe of a replica")
            try:
                ask = getattr(driver_of(pool), "ask", None)
                lag = 0.0 if ask is None else float(ask(lease.connection, LAG)[0])
            except BaseException:
                pool.discard(lease)
                raise
            lease.release()
        except (PoolTimeout, TooManyWaiters) as error:
            if pool.stats().outage is not None:
                self.leave_out(one_line(error))
            # Else it is busy, and its last result becomes too old.
        except Exception as error:
            self.leave_out(one_line(error))
        else:
            self.known_at = time.monotonic()
            if 0 <= lag <= max_lag:
                self.use(lag)
            else:
                self.leave_out("its lag is unknown" if lag < 0 else f"it is {lag:.1f} s behind")
        finally:
            self.is_probed = False

    def use(self, lag: float) -> None:
        """Note that it may be used."""
        self.lag = lag
        if self.problem is not None:
            self.problem = None
            logger.info("replica %r: in use again", self.alias)

    def leave_out(self, problem: str) -> None:
        """Note that it may not be used until a probe has succeeded."""
        self.lag = None
        if self.problem is None:
            self.problem = problem
            logger.warning("replica %r: left out: %s", self.alias, problem)


class ReplicaRouter:
    """A database router that sends reads to replicas, by `settings.POOLING["replicas"]`.

    A read goes to the replica with the fewest leases among those that answer and are less than
    `max_replica_lag` seconds behind. It goes to the primary if there is none, in a transaction of
    the primary, and in a request or task that has written there.

    Probes run in the background, and only while there are reads. So the first reads of a process,
    or after a pause of five seconds, go to the primary.
    """

    def __init__(self) -> None:
        replicas = _option("replicas", {})
        self._replicas = {
            primary: [_Replica(alias) for alias in aliases] for primary, aliases in replicas.items()
        }
        self._primaries = {
            alias: primary for primary, aliases in replicas.items() for alias in (primary, *aliases)
        }
        self._max_lag = float(_option("max_replica_lag", MAX_REPLICA_LAG))
        self._stick_seconds = stick_seconds()
        _connect_signals()

    def primary_of(self, model: type[Model]) -> str | None:  # noqa: ARG002
        """Return the alias of the primary that a model is on; for subclasses with several."""
        return DEFAULT_DB_ALIAS

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """Return the alias to read from. Blocks for a second if a replica has just gone."""
        primary = self._primary(model, hints)
        replicas = self._replicas.get(primary or "")
        if primary is None or not replicas:
            return None
        wrapper = self._watched(primary)
        if (
            wrapper.in_atomic_block
            or not wrapper.settings_dict["AUTOCOMMIT"]
            or (wrapper.connection is not None and not wrapper.autocommit)
        ):
            return primary
        for replica in replicas:
            if connections[replica.alias].in_atomic_block:
                return replica.alias
        if current_work().reads_primary(primary, self._stick_seconds):
            return primary
        origin = _origin(hints)
        if origin == primary:
            return primary
        return self._choose(replicas, origin) or primary

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        """Return the alias of the primary: also for `select_for_update`, which asks for it."""
        primary = self._primary(model, hints)
        if primary is None or primary not in self._replicas:
            return None
        self._watched(primary)
        return primary

    def allow_relation(self, first: Model, second: Model, **hints: Any) -> bool | None:  # noqa: ARG002
        """Allow relations between objects of one primary, wherever they were read."""
        primaries = [
            self._primaries.get(_origin({"instance": each}) or "") for each in (first, second)
        ]
        return True if primaries[0] is not None and primaries[0] == primaries[1] else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:  # noqa: ARG002
        """Refuse to migrate a replica."""
        return None if self._primaries.get(db, db) == db else False

    # ---- where -----------------------------------------------------------------------------------

    def _primary(self, model: type[Model], hints: Mapping[str, Any]) -> str | None:
        origin = _origin(hints)
        return self.primary_of(model) if origin is None else self._primaries.get(origin)

    def _watched(self, primary: str) -> Any:
        """Return the primary's wrapper, whose statements are noted from now on."""
        wrapper: Any = connections[primary]
        # First, since `connection.execute_wrapper()` takes off the last one at its end.
        if _note_writes not in wrapper.execute_wrappers:
            wrapper.execute_wrappers.insert(0, _note_writes)
        return wrapper

    def _choose(self, replicas: list[_Replica], preferred: str | None) -> str | None:
        """Return the best replica that answers; None if none does."""
        now = time.monotonic()
        candidates = []
        for replica in replicas:
            resolve = getattr(connections[replica.alias], "resolve_pool", None)
            pool: Pool[Any] | None = None if resolve is None else resolve()
            if pool is None:
                continue
            if replica.is_probe_due(now):
                replica.asked_at, replica.is_probed = now, True
                WORKERS.run(partial(replica.probe, pool, self._max_lag))
            if replica.lag is None or now - replica.known_at > PROBE_TIMEOUT:
                continue
            # At this instant, without the lock: `stats()` would cost as much as a short query.
            state = pool._state  # noqa: SLF001
            if state.backoff.down_since is not None:
                replica.leave_out(one_line(state.backoff.error_text))
                continue
            leased = state.leased
            rank = (replica.alias != preferred, leased, random.random())
            candidates.append((rank, replica, pool, leased >= pool.config.max_size))
        for _, replica, pool, is_full in sorted(candidates, key=lambda each: each[0]):
            if is_full or self._answers(replica, pool):
                return replica.alias
        return None

    def _answers(self, replica: _Replica, pool: Pool[Any]) -> bool:
        """Tell whether there is a connection to a replica. The read takes it out of the pool."""
        if connections[replica.alias].connection is not None:
            return True
        try:
            pool.acquire(CONNECT_TIMEOUT).release()
        except (PoolTimeout, TooManyWaiters) as error:
            if pool.stats().outage is None:
                return True  # it is busy: the read waits for its turn
            replica.leave_out(one_line(error))
        except Exception as error:
            replica.leave_out(one_line(error))
        else:
            return True
        return False


def _origin(hints: Mapping[str, Any]) -> str | None:
    """Return the alias from which the object was read that a query starts from."""
    state = getattr(hints.get("instance"), "_state", None)
    return getattr(state, "db", None)


def _note_writes(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Note what is not certainly a read: whether it succeeds is seen too late."""
    if not is_plain_read(sql) and not (isinstance(sql, str) and sql.lower().startswith(_CONTROLS)):
        current_work().written[context["connection"].alias] = time.monotonic()
    return execute(sql, params, many, context)


def _option(name: str, default: Any) -> Any:
    options = getattr(settings, "POOLING", None)
    return options.get(name, default) if isinstance(options, Mapping) else default


# ---- requests and tasks --------------------------------------------------------------------------


def _connect_signals() -> None:
    uid = "pooling.routers"
    request_started.connect(_request_started, dispatch_uid=uid)
    request_finished.connect(_request_finished, dispatch_uid=uid)
    if "celery" in sys.modules:
        from celery import signals  # type: ignore[import-untyped,unused-ignore]

        signals.task_prerun.connect(_task_started, dispatch_uid=uid, weak=False)
        signals.task_postrun.connect(_task_finished, dispatch_uid=uid, weak=False)


def _request_started(**_: Any) -> None:
    begin_work()


def _request_finished(**_: Any) -> None:
    work = _WORK.get()
    if work is not None:
        work.depth = 0  # for threads and tasks that go on with a copy of the request's context
    _WORK.set(None)


def _task_started(**_: Any) -> None:
    work = current_work()
    if work.depth:
        work.depth += 1  # run in the midst of a request, by `apply()`
    else:
        begin_work()


def _task_finished(**_: Any) -> None:
    work = current_work()
    work.depth -= 1
    if work.depth <= 0:
        _WORK.set(None)
