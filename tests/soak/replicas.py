"""Reads and writes through `ReplicaRouter`, on a primary and a standby in trouble."""

from __future__ import annotations

import random
import threading
import time
from bisect import bisect
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from django.core.signals import request_finished, request_started
from django.db import Error, connections, models, router, transaction

from pooling.core.errors import PoolError
from pooling.routers import PROBE_TIMEOUT, ReplicaRouter
from tests.soak.load import ALIAS
from tests.soak.monitor import BOUND
from tests.support.servers import driver, execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.soak.load import Load
    from tests.soak.monitor import Monitor
    from tests.support.faulty_servers import Standby

REPLICA = "soak_replica"
APPLICATION = "soak-replica"
OPTIONS = {"max_size": 4, "timeout": 5.0, "fail_fast": 0, "max_idle": 2.0, "recycle": 20.0}
MAX_LAG = 1.0
SETTINGS = {
    "DATABASE_ROUTERS": [f"{__name__}.Router"],
    "POOLING": {"replicas": {ALIAS: [REPLICA]}, "max_replica_lag": MAX_LAG},
}
ACCOUNTS, TOTAL = 8, 800
TABLES = (
    "CREATE TABLE account (id integer PRIMARY KEY, balance integer NOT NULL)",
    f"INSERT INTO account SELECT n, {TOTAL // ACCOUNTS} FROM generate_series(1, {ACCOUNTS}) n",
    "CREATE TABLE note (id serial PRIMARY KEY, text varchar NOT NULL)",
)
LONGEST_DECISION = 3.0
"""Seconds that the router may take: with `fail_fast=0` it waits for nothing, on an idle machine."""
OLDEST = MAX_LAG + PROBE_TIMEOUT + 3.0
"""Seconds by which what is read may be old: the lag that a probe accepts, the time that its result
counts, and what a busy machine adds."""


class Router(ReplicaRouter):
    """All models of a run are on its alias."""

    def primary_of(self, model: type[models.Model]) -> str | None:
        return ALIAS


class Account(models.Model):
    """Transfers between accounts leave the sum of all balances as it is."""

    id = models.IntegerField(primary_key=True)
    balance = models.IntegerField()

    class Meta:
        app_label = "soak"
        db_table = "account"
        managed = False

    def __str__(self) -> str:
        return f"account {self.pk} with {self.balance}"


class Note(models.Model):
    """What a request has written and reads again."""

    text = models.CharField(max_length=50)

    class Meta:
        app_label = "soak"
        db_table = "note"
        managed = False

    def __str__(self) -> str:
        return f"note {self.pk}: {self.text}"


class CommittedNotes:
    """Which notes are certainly committed, and since when."""

    def __init__(self) -> None:
        self._notes: list[tuple[float, int]] = []
        self._lock = threading.Lock()

    def add(self, number: int) -> None:
        with self._lock:
            last = self._notes[-1][1] if self._notes else 0
            self._notes.append((time.monotonic(), max(number, last)))

    def last_before(self, moment: float) -> int:
        """Return the greatest number that was committed before."""
        with self._lock:
            position = bisect(self._notes, moment, key=lambda note: note[0])
            return self._notes[position - 1][1] if position else 0


@contextmanager
def request() -> Iterator[None]:
    """Do what Django does around a request."""
    request_started.send(None)
    try:
        yield
    finally:
        request_finished.send(None)


class ReplicaActs:
    """What a thread of a run reads and writes through the router."""

    def __init__(self, load: Load, notes: CommittedNotes) -> None:
        self._load = load
        self._notes = notes
        self.acts: dict[Callable[[], None], float] = {
            self.read_through_router: 8,
            self.read_own_write: 5,
            self.transfer: 4,
        }

    @property
    def _monitor(self) -> Monitor:
        return self._load.monitor

    def read_through_router(self) -> None:
        """Read wherever the router says; the content must be consistent, and not too old."""
        with self._request():
            self._decide()
            began = time.monotonic()
            accounts = list(Account.objects.all())
            if (total := sum(account.balance for account in accounts)) != TOTAL:
                self._monitor.report(f"the balances are {total} together, not {TOTAL}")
            where = accounts[0]._state.db
            last = Note.objects.order_by("-id").first()
            newest = self._notes.last_before(began - OLDEST)
            if (0 if last is None else last.pk) < newest:
                self._monitor.report(
                    f"note {last and last.pk} was the last one read, from {where} or "
                    f"{last and last._state.db}: older than {OLDEST:g} s, {newest} was committed"
                )
        place = "the replica" if where == REPLICA else "the primary"
        self._monitor.count(f"reads from {place}")
        if self._monitor.calm.is_set():
            self._monitor.count(f"reads from {place} in calm")

    def read_own_write(self) -> None:
        """Read what the request has written, which a replica may not have yet."""
        token = str(self._load.random.random())
        with self._request():
            if self._load.random.random() < 0.5:
                Note.objects.order_by("id").first()  # a read before is a replica's
            note = Note.objects.create(text=token)
            self._notes.add(note.pk)
            self._expect(note, token)
            token += "-changed"
            Note.objects.filter(pk=note.pk).update(text=token)
            self._expect(note, token)

    def _expect(self, note: Note, text: str) -> None:
        found = Note.objects.filter(pk=note.pk).first()
        if found is None or found.text != text:
            self._monitor.report(f"a request did not read what it has written: {found}")
        elif found._state.db != ALIAS:
            self._monitor.report(f"a request that has written read from {found._state.db}")

    def transfer(self) -> None:
        """Change two rows that are locked: all of it on the primary."""
        amount = self._load.random.randint(-9, 9)
        numbers = self._load.random.sample(range(1, ACCOUNTS + 1), 2)
        with self._request(), transaction.atomic(using=ALIAS):
            locked = Account.objects.select_for_update().filter(pk__in=numbers).order_by("pk")
            first, second = locked
            first.balance -= amount
            second.balance += amount
            first.save()
            second.save()
            again = Account.objects.get(pk=first.pk)
            if {each._state.db for each in (first, second, again)} != {ALIAS}:
                self._monitor.report("a transaction of the primary has read elsewhere")
            if again.balance != first.balance:
                self._monitor.report("a transaction did not read what it has written")

    @contextmanager
    def _request(self) -> Iterator[None]:
        try:
            with request():
                yield
        finally:
            with suppress(Error, PoolError):
                connections[REPLICA].close()

    def _decide(self) -> None:
        began = time.monotonic()
        try:
            where = router.db_for_read(Account)
        except Exception as error:
            self._monitor.report(f"the router failed with {type(error).__name__}: {error}")
            return
        seconds = time.monotonic() - began
        if where not in (ALIAS, REPLICA):
            self._monitor.report(f"the router reads from {where!r}")
        if seconds > LONGEST_DECISION:
            self._monitor.report(f"the router took {seconds:.1f} s")


class ReplicaFaults:
    """What happens to the standby.

    Args:
        wait: waits for so many seconds, or until the faults are over.
    """

    def __init__(self, standby: Standby, seed: str) -> None:
        self._standby = standby
        self._random = random.Random(seed)
        self.wait: Callable[[float], object] = time.sleep
        self.kinds: dict[Callable[[], None], float] = {
            self.stop_standby: 0.4,
            self.freeze_standby: 0.7,
            self.pause_replay: 0.7,
            self.terminate_on_standby: 2,
        }

    def stop_standby(self) -> None:
        self._standby.stop(self._random.choice(("fast", "immediate")))
        self.wait(self._random.random())
        self._standby.start()

    def freeze_standby(self) -> None:
        self._standby.freeze()
        self.wait(self._random.random() * 1.5)
        self._standby.thaw()

    def pause_replay(self) -> None:
        """Let it fall behind: mostly by little, at times by more than may be read."""
        execute(self._standby.url, "SELECT pg_wal_replay_pause()")
        self.wait(self._random.random() ** 3 * 2 * OLDEST)
        execute(self._standby.url, "SELECT pg_wal_replay_resume()")

    def terminate_on_standby(self) -> None:
        execute(
            self._standby.url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE application_name = '{APPLICATION}' AND random() < 0.5",
        )


def report_sessions_left(monitor: Monitor, standby: Standby) -> None:
    """Report sessions of the replica's pool, which is closed."""
    count = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{APPLICATION}'"
    deadline = time.monotonic() + BOUND
    try:
        while (left := execute(standby.url, count)[0][0]) and time.monotonic() < deadline:
            time.sleep(0.02)
    except driver().Error as error:
        monitor.report(f"the standby cannot be asked: {error}")
        return
    if left:
        monitor.report(f"{left} sessions are left at the standby")
