"""The slots of a budget, as the server sees them."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from django.db import transaction

from pooling.backends.postgresql.budget import POOLS, SLOTS
from tests.soak.load import ALIAS
from tests.soak.monitor import BOUND
from tests.support.servers import driver

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.soak.load import Load
    from tests.soak.monitor import Monitor

LOCKS = "pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2"
OWN_SLOTS = f"""
SELECT count(*) FROM {LOCKS} AND classid = {SLOTS} AND objid BETWEEN 1 AND %s
AND pid = pg_backend_pid()
"""
"""Counts the slots of the session that asks."""

SESSIONS = f"""
WITH slots AS (
    SELECT pid, objid::bigint AS slot FROM {LOCKS} AND classid = {SLOTS} AND objid > 0
)
SELECT pid, coalesce(application_name, ''), slot
FROM pg_stat_activity FULL JOIN slots USING (pid)
WHERE application_name = ANY(%s) OR slot IS NOT NULL
"""
"""The sessions of the processes that share the budget, each with its slot, and all slots."""
LEFT = f"SELECT count(*) FROM {LOCKS} AND classid IN ({SLOTS}, {POOLS})"

UNLOCKING = (
    "SELECT pg_advisory_unlock_all()",
    "DO $$ BEGIN PERFORM pg_advisory_unlock_all(); END $$",
    f"SELECT pg_advisory_unlock({SLOTS}, n) FROM generate_series(1, 20) n",
)
"""Statements of an application that take its slot from a session."""

SAMPLE_EVERY = 0.05
LONGEST_GAP = 0.5
"""Seconds between two samples after which nothing is known of the time between them."""
AT_ONCE = 2.0
"""Seconds for which a sample may be wrong: it is no snapshot, and the server notices a little later
that a client is gone."""
SET_UP = 6.0
"""Seconds for which a session may be without a slot: it waits for one for less than a second, and
faults of the server and the network pause it meanwhile."""
LEAST_UNLOCKED = 10
"""How many slots must have been unlocked before their loss to rivals is judged."""


def own_slots(cursor: Any, budget: int) -> int:
    """Return how many slots the cursor's session has, of those there are."""
    cursor.execute(OWN_SLOTS, [budget])
    return int(cursor.fetchone()[0])


class SlotAudit:
    """A thread that watches the sessions and their slots at the server.

    At no instant may more sessions be there than the budget, and one per process that is being set
    up (docs/budget.md). So each session but those has a slot, exactly one, and no slot is
    anybody else's.

    Args:
        url: of the server, past any proxy.
        names: the `application_name` of each process that shares the budget.
        processes: returns how many processes there are at most at this moment.
    """

    def __init__(
        self,
        monitor: Monitor,
        url: str,
        *,
        budget: int,
        names: tuple[str, ...],
        processes: Callable[[], int],
    ) -> None:
        self.monitor = monitor
        self.budget = budget
        self._url = url
        self._names = list(names)
        self._processes = processes
        self._since: dict[tuple[str, int], float] = {}
        """Since when what must not last is there, by the problem and the session."""
        self._last = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slots", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Stop watching. All pools are closed: report if slots are still taken."""
        self._over.set()
        self._thread.join(BOUND)
        deadline = time.monotonic() + BOUND
        with self._connect() as connection:
            while (left := self._ask(connection, LEFT)[0][0]) and time.monotonic() < deadline:
                time.sleep(0.02)
        counts = self.monitor.counts
        if counts["slots lost to rivals"] * 2 > counts["unlocked slots"] > LEAST_UNLOCKED:
            self.monitor.report("slots that a lease unlocks are not taken again")
        if left:
            self.monitor.report(f"{left} locks of the budget are left, but all pools are closed")

    def _connect(self) -> Any:
        connection = driver().connect(f"{self._url}?application_name=observer", connect_timeout=2)
        connection.autocommit = True
        return connection

    def _ask(self, connection: Any, sql: str, *params: Any) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(sql, params or None)
            return list(cursor.fetchall())

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                connection = self._connect()
                try:
                    while not self._over.wait(SAMPLE_EVERY):
                        self._compare(self._ask(connection, SESSIONS, self._names))
                finally:
                    connection.close()
            except driver().Error:
                self._over.wait(SAMPLE_EVERY)  # the server is down

    def _compare(self, rows: list[tuple[int, str, int | None]]) -> None:
        self.monitor.count("comparisons of slots")
        slots: dict[int, list[int]] = {}
        ours = {pid for pid, name, _ in rows if name in self._names}
        for pid, _, slot in rows:
            if slot is not None:
                slots.setdefault(pid, []).append(slot)
        if wrong := {slot for each in slots.values() for slot in each if slot > self.budget}:
            self.monitor.report(f"slots {wrong} are taken, but the budget is {self.budget}")
        most = self.budget + self._processes()
        found = {
            ("is there without a slot", SET_UP): ours - slots.keys(),
            ("is not there or not ours, but has a slot", AT_ONCE): slots.keys() - ours,
            ("has several slots", AT_ONCE): {pid for pid in slots if len(slots[pid]) > 1},
            (f"is one of more than {most} sessions", AT_ONCE): ours if len(ours) > most else set(),
        }
        now = time.monotonic()
        if now - self._last > LONGEST_GAP:
            self._since.clear()
        self._last = now
        before, self._since = self._since, {}
        for (problem, bound), pids in found.items():
            for pid in pids:
                since = self._since[problem, pid] = before.get((problem, pid), now)
                if now - since > bound:
                    self.monitor.report(f"session {pid} {problem}, for {bound:g} s")
                    self._since[problem, pid] = now


class SlotActs:
    """What a thread of a run does with advisory locks, which must neither free nor leak a slot."""

    def __init__(self, load: Load, budget: int) -> None:
        self._load = load
        self._budget = budget
        self.acts: dict[Callable[[], None], float] = {
            self.look_at_slot: 5,
            self.use_advisory_locks: 4,
        }

    def look_at_slot(self) -> None:
        """Expect one slot in a session in use."""
        with self._load.wrapper.cursor() as cursor:
            if (count := own_slots(cursor, self._budget)) != 1:
                self._load.monitor.report(f"a session in use has {count} slots")

    def use_advisory_locks(self) -> None:
        """Lock and unlock; expect that the slot was taken again, if no rival was quicker."""
        monitor, random = self._load.monitor, self._load.random
        block = transaction.atomic(using=ALIAS) if random.random() < 0.5 else nullcontext()
        with block, self._load.wrapper.cursor() as cursor:
            if random.random() < 0.5:
                cursor.execute("SELECT pg_advisory_lock(%s)", [random.randrange(1 << 40)])
            cursor.execute(random.choice(UNLOCKING))
            count = own_slots(cursor, self._budget)
        monitor.count("unlocked slots")
        if count == 0:
            monitor.count("slots lost to rivals")
        elif count != 1:
            monitor.report(f"a session that has unlocked its slot has {count}")
