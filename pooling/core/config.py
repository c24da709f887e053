"""The options of a pool, and every rule about their values."""

from __future__ import annotations

import dataclasses

from pooling.core.errors import PoolConfigError

RESETS = ("rollback", "session", "always")
SCOPES = ("request", "transaction")

LONGEST = 1e9
"""The longest duration in seconds, some thirty years. More is a mistake, and so is infinity."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """The options of one pool. All durations are seconds; `None` always means "no limit".

    Attributes:
        min_size: connections that are kept open while the pool is in use; none is opened before
            the first use, and after `max_idle` without any use all are closed.
        max_size: the most connections this pool has at any moment, in this process.
        timeout: how long `acquire` may take, with queueing, testing and connecting.
        recycle: the age at which a connection is replaced. Each connection draws its own age from
            the last fifth before this, so that they never all go at once.
        max_idle: idle connections above `min_size` are closed after this; all of them when the
            whole pool was not used for so long.
        fail_fast: how long the server may be down before callers no longer wait for it. From then
            on one attempt at a time is made to reach it, and callers get the last error at once,
            unless there is a connection that may become free. 0 fails with the first error, with
            `None` callers wait for `timeout`.
        max_waiting: callers that may queue beyond those the pool has room for; more fail at once.
        max_uses: leases after which a connection is replaced.
        ping_after: idle time after which the next `acquire` pays one round trip to test the
            connection; 0 tests each time, `None` never. A connection that is handed over from its
            last holder gets the free liveness test only.
        reset: what a release does beyond ending the transaction: `"rollback"` (nothing more),
            `"session"` (undo what the lease changed in the session, if it did), `"always"` (the
            same, whether it did or not), or the dotted path of a function that takes the raw
            connection.
        scope: how long a lease of a Django database lasts: `"request"` (until Django ends the
            request), or `"transaction"` (as long as something depends on the session; needs
            `reset="session"`).
        connect_params: the dotted path of a function that supplies parameters for each physical
            connection of a Django database, such as a token.
        replay_reads: whether the first statement of a lease of a Django database, if it only reads,
            is run once more when its session had ended.
        budget: the most connections that all processes with this option together have open to the
            database, with PostgreSQL; needs `reset="session"`.
        leak_after: a lease older than this is reported once, with the stack that acquired it.
        name: what logs, errors and metrics call the pool.

    Raises:
        PoolConfigError: with all problems at once.
    """

    min_size: int = 1
    max_size: int = 10
    timeout: float | None = 30.0
    recycle: float | None = 3600.0
    max_idle: float | None = 600.0
    fail_fast: float | None = 10.0
    max_waiting: int | None = None
    max_uses: int | None = None
    ping_after: float | None = 30.0
    reset: str = "rollback"
    scope: str = "request"
    connect_params: str | None = None
    replay_reads: bool = False
    budget: int | None = None
    leak_after: float | None = None
    name: str = "pool"

    def __post_init__(self) -> None:
        problems = [
            *_count("min_size", self.min_size, at_least=0),
            *_count("max_size", self.max_size, at_least=1),
            *_seconds("timeout", self.timeout),
            *_seconds("recycle", self.recycle),
            *_seconds("max_idle", self.max_idle),
            *_seconds("fail_fast", self.fail_fast, zero=True),
            *_count("max_waiting", self.max_waiting, at_least=0, optional=True),
            *_count("max_uses", self.max_uses, at_least=1, optional=True),
            *_seconds("ping_after", self.ping_after, zero=True),
            *_reset(self.reset),
            *_scope(self.scope, self.reset),
            *_connect_params(self.connect_params),
            *_flag("replay_reads", self.replay_reads),
            *_count("budget", self.budget, at_least=1, optional=True),
            *_budget(self.budget, self.reset),
            *_seconds("leak_after", self.leak_after),
            *_name(self.name),
        ]
        if not any(option in ("min_size", "max_size") for option, _ in problems):
            problems += _sizes(self.min_size, self.max_size)
        if problems:
            raise PoolConfigError(tuple(problems))


OPTIONS = tuple(field.name for field in dataclasses.fields(PoolConfig))

_Problems = list[tuple[str, str]]


def _count(option: str, value: object, *, at_least: int, optional: bool = False) -> _Problems:
    wanted = f"a whole number of at least {at_least}" + (", or None for no limit" * optional)
    if value is None and optional:
        return []
    if isinstance(value, bool) or not isinstance(value, int):
        return [(option, f"must be {wanted}, not {_shown(value)}")]
    if value < at_least:
        return [(option, f"must be {wanted}, not {value}")]
    return []


def _seconds(option: str, value: object, *, zero: bool = False) -> _Problems:
    wanted = f"a number of seconds {'from' if zero else 'above'} 0, or None for no limit"
    if value is None:
        return []
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return [(option, f"must be {wanted}, not {_shown(value)}")]
    if not 0 <= value <= LONGEST or (value == 0 and not zero):
        return [(option, f"must be {wanted}, not {value}")]
    return []


def _reset(value: object) -> _Problems:
    if isinstance(value, str) and (value in RESETS or "." in value.strip(".")):
        return []
    choices = ", ".join(repr(reset) for reset in RESETS)
    return [
        ("reset", f"must be {choices} or the dotted path of a function, not {_shown(value)}"),
    ]


def _scope(value: object, reset: object) -> _Problems:
    if value not in SCOPES:
        choices = " or ".join(repr(scope) for scope in SCOPES)
        return [("scope", f"must be {choices}, not {_shown(value)}")]
    if value == "transaction" and reset != "session":
        problem = (
            "must be 'session' with scope='transaction', which goes by the changes that a lease "
            "makes to its session; leave reset out"
        )
        return [("reset", problem)]
    return []


def _budget(value: object, reset: object) -> _Problems:
    if value is None or reset == "session":
        return []
    problem = (
        "must be 'session' with a budget, which is kept by a lock in the session that statements "
        "may free; leave reset out"
    )
    return [("reset", problem)]


def _connect_params(value: object) -> _Problems:
    if value is None or (isinstance(value, str) and "." in value.strip(".")):
        return []
    problem = f"must be the dotted path of a function, or None, not {_shown(value)}"
    return [("connect_params", problem)]


def _flag(option: str, value: object) -> _Problems:
    if isinstance(value, bool):
        return []
    return [(option, f"must be True or False, not {_shown(value)}")]


def _name(value: object) -> _Problems:
    if isinstance(value, str) and value.strip():
        return []
    return [("name", f"must be a text that is not empty, not {_shown(value)}")]


def _sizes(min_size: int, max_size: int) -> _Problems:
    if min_size <= max_size:
        return []
    return [("min_size", f"must not exceed max_size, but {min_size} > {max_size}")]


def _shown(value: object) -> str:
    """Show a wrong value together with its type where only the type is wrong."""
    if isinstance(value, str):
        return f"the string {value!r}"
    if isinstance(value, bool):
        return f"the boolean {value}"
    return repr(value)
