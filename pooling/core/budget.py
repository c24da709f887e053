"""The policy of a budget: who gives up connections for whom, and how often that is asked.

A budget is the most connections that all processes together have open to one database. This module
only decides; who has how many is known to the database, and drivers ask it. The rule is max-min
fairness (Bertsekas and Gallager, "Data Networks", 1992, section 6.5.2): a process that
wants less than an equal share gets what it wants, and the others share the rest equally.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

PROBE_PAUSE = 0.5
"""Seconds between two looks of a process at whether others need its connections, at least."""

PROBES_PER_SECOND = 100
"""How many such looks all processes together make: with more of them, each looks less often. It
does not matter who looks, as long as somebody does who can give."""

ATTEMPT_PAUSE, LONGEST_ATTEMPT_PAUSE = 0.2, 60.0
"""Seconds between two attempts of a pool that was turned away."""

HOPELESS_PAUSE = 2.0
"""The same of a pool that has its share, at first, and doubled each time: it waits for others to
want less. A look that finds room ends its pause."""

MOST_WANTING = 80
"""How many pools wait on the server at a time. With more of them each lengthens its pauses, so that
they make about a hundred attempts a second together: each costs the server a connect."""

CEILING = 2.0
"""Seconds for which a process keeps to what it was told to have at most, beyond its next look: it
cannot look while all that it has is in use."""

TURN = 2.0
"""Seconds that a connection is kept at least, when there are more processes than connections and
they have to take turns."""

EAGERNESS = 0.25
"""The chance that a process gives at once although it is another one's turn to, which may be
unable: all its connections may be in use."""


POOL_BITS = 7
"""The last bits of a pool's number tell the pools of a process apart, the others the processes."""


class Share(NamedTuple):
    """What one pool of one process has of a budget."""

    connections: int
    wants: bool
    """Whether callers of it wait for a connection that the budget does not allow."""


class BudgetUse(NamedTuple):
    """How a budget was used when this process last looked."""

    limit: int
    used: int
    processes: int
    wanting: int
    """Processes whose callers wait for a connection that the budget does not allow."""

    def __str__(self) -> str:
        processes = f"{self.processes} process" + "es" * (self.processes != 1)
        return f"budget {self.used} of {self.limit} used by {processes}"


class Probe(NamedTuple):
    """What a look at a budget found."""

    use: BudgetUse | None
    """None if that was not looked at."""
    pause: float
    """Seconds until the next one."""
    ceiling: int | None = None
    """The most connections that the process may have for now; None for no such limit."""
    give_up: bool = False
    """Whether the connection that was used for looking is to be given up."""


def use_of(shares: Mapping[int, Share], limit: int) -> BudgetUse:
    """Return what people want to know of the shares of all pools, by number."""
    return BudgetUse(
        limit,
        sum(share.connections for share in shares.values()),
        len({pool >> POOL_BITS for pool, share in shares.items() if share.connections}),
        len({pool >> POOL_BITS for pool, share in shares.items() if share.wants}),
    )


def fair_share(shares: Iterable[Share], limit: int) -> float:
    """Return the share of those that want more: what the others leave, divided.

    Args:
        shares: what each process has; at least one wants more.
        limit: the budget.
    """
    left, sharing = limit, 0
    contented: list[int] = []
    for share in shares:
        sharing += 1
        if not share.wants:
            contented.append(share.connections)
    for connections in sorted(contented):
        if connections * sharing > left:
            break
        left -= connections
        sharing -= 1
    return left / sharing


class _Overview:
    """What all pools together have, and how far they are from sharing it."""

    def __init__(self, shares: Mapping[int, Share], limit: int) -> None:
        self.free = limit - sum(share.connections for share in shares.values())
        self.richest = max(share.connections for share in shares.values())
        self.share = fair_share(shares.values(), limit)
        self.ceiling = max(math.ceil(self.share), 1)

    def may_hope(self, own: int) -> bool:
        return own < self.ceiling and (own == 0 or self.free > 0 or self.richest >= own + 2)


def may_hope(shares: Mapping[int, Share], pool: int, limit: int) -> bool:
    """Tell whether a pool may have one connection more, now or as soon as another gives one up.

    It gets no more than its share, and none from one that would then have fewer.
    """
    return _Overview(shares, limit).may_hope(shares[pool].connections)


def probe(
    shares: Mapping[int, Share],
    pool: int,
    limit: int,
    *,
    in_demand: bool,
    age: float,
    random: Callable[[], float],
) -> Probe:
    """Decide what a pool gives up for others.

    Args:
        shares: what each pool has, the one that asks included.
        pool: the one that asks.
        limit: the budget.
        in_demand: whether callers of its own wait for the connection that it looks with.
        age: for how many seconds it has had that connection.
        random: returns a random number from 0 to 1.
    """
    use = use_of(shares, limit)
    pause = probe_pause(len(shares), random)
    wanting = [each.connections for number, each in shares.items() if each.wants and number != pool]
    if not wanting:
        return Probe(use, pause)
    overview = _Overview(shares, limit)
    needy = list(filter(overview.may_hope, wanting))
    if len(needy) <= overview.free:
        return Probe(use, pause)
    own, share, ceiling = shares[pool].connections, overview.share, overview.ceiling
    if own > ceiling:
        return Probe(use, pause, ceiling)
    takes_turns = share < own == 1 and min(needy) == 0 and (age >= TURN or not in_demand)
    if own < min(needy) + 2 and not takes_turns:
        return Probe(use, pause, ceiling)
    missing = sum(max(int(share) - connections, 1) for connections in needy)
    richer = sum((each.connections, number) > (own, pool) for number, each in shares.items())
    return Probe(use, pause, ceiling, give_up=richer < missing or random() < EAGERNESS)


def probe_pause(processes: int, random: Callable[[], float]) -> float:
    """Return how many seconds a process waits until it looks again."""
    return max(PROBE_PAUSE, processes / PROBES_PER_SECOND) * (0.75 + random() / 2)


def attempt_pause(last: float, wanting: int, *, hopeful: bool) -> float:
    """Return how many seconds a pool that was turned away waits before it tries again.

    Args:
        last: how long it has waited before, if it was as hopeful then, else 0.
        wanting: how many pools want a connection and wait for it on the server at this moment.
        hopeful: whether `may_hope`.
    """
    factor, least = (wanting / MOST_WANTING, ATTEMPT_PAUSE) if hopeful else (2.0, HOPELESS_PAUSE)
    return min(max(least, last * factor), LONGEST_ATTEMPT_PAUSE)
