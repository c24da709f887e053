"""Real asynchronous exceptions, in threads that use the pool and in one that joins them.

They arrive anywhere, inside `Thread.is_alive()` and `join()` as well, which makes these wrong for
good (python/cpython#90882). In a process of its own, which used to end by a segmentation fault.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.projects import REPOSITORY

if TYPE_CHECKING:
    from tests.support.databases import Database

SECONDS = float(os.environ.get("TEST_ASYNC_SECONDS", "4"))
"""How long exceptions are raised. More finds more, and every run costs as much."""

SCRIPT = """
import ctypes, gc, json, random, sys, threading, time
from tests.support.servers import choose_driver, choose_mysql_driver
choose_driver()
import django
from django.conf import settings

entry, seconds = json.loads(sys.argv[1]), float(sys.argv[2])
choose_mysql_driver({"default": entry})
settings.configure(DATABASES={"default": entry}, INSTALLED_APPS=[], USE_TZ=True)
django.setup()
from django.db import connection, connections, transaction
import pooling

with connection.cursor() as cursor:  # an import that is interrupted is not for us to mend
    cursor.execute("SELECT 1")
connection.close()

class Interrupt(Exception):
    pass

# Nothing is raised in a thread while any thread is being started: that breaks CPython itself.
starting = threading.RLock()
start = threading.Thread.start
def guarded(thread):
    with starting:
        start(thread)
threading.Thread.start = guarded

MAX_SIZE = entry["OPTIONS"]["pool"]["max_size"]
users, shared = {}, []
stop = threading.Event()

def leave():
    # Before its connection goes back, a thread says so, however often it is interrupted.
    while True:
        try:
            users.pop(threading.get_ident(), None)
            return
        except Interrupt:
            pass

def use():
    me = threading.get_ident()
    with transaction.atomic(), connection.cursor() as cursor:
        mine = id(connection.connection)
        users[me] = mine
        shared.extend((me, other) for other, theirs in list(users.items())
                      if theirs == mine and other != me)
        cursor.execute("SELECT 1")
        cursor.fetchone()
        shared.extend((me, other) for other, theirs in list(users.items())
                      if theirs == mine and other != me)

def work():
    leave()
    while not stop.is_set():
        try:
            try:
                use()
            finally:
                leave()
                connection.close()
        except Interrupt:
            leave()
            del connections["default"]  # what an interrupt has left of it is nobody's any more
        except Exception:
            pass

def survive(target):
    while not stop.is_set():
        try:
            target()
        except (Interrupt, AttributeError):
            pass

threads = [threading.Thread(target=survive, args=(work,), daemon=True) for _ in range(3)]

def join():
    while not stop.is_set():
        for each in threads:
            each.join(0.0005)
            each.is_alive()

joiner = threading.Thread(target=survive, args=(join,), daemon=True)
for each in [*threads, joiner]:
    each.start()
rng, end, raised = random.Random(7), time.monotonic() + seconds, 0
while time.monotonic() < end:
    time.sleep(rng.uniform(0.0002, 0.003))
    victim = joiner if rng.random() < 0.7 else rng.choice(threads)
    with starting:
        raised += ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(victim.ident), ctypes.py_object(Interrupt)
        )
stop.set()
for each in threads:
    each.join(2)
gc.collect()
pool = pooling.get_pool()
deadline = time.monotonic() + 15
while pool.stats().leased and time.monotonic() < deadline:
    pool._tasks.maintain()
    gc.collect()
    time.sleep(0.05)
leases = [pool.acquire(10) for _ in range(MAX_SIZE)]
stats = pool.stats()
print(json.dumps({"raised": raised, "shared": len(shared), "size": stats.size,
                  "leased": stats.leased, "acquired": stats.acquired}))
for lease in leases:
    lease.release()
pool.close()
"""


def test_no_connection_is_shared_and_none_is_lost(database: Database) -> None:
    """Scenario 54."""
    entry = database.settings(pool={"max_size": 2, "timeout": 5})
    entry["OPTIONS"].pop("factory", None)  # a class, which another process cannot be told
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(entry, default=str), str(SECONDS)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
    )
    assert answer.returncode == 0, (answer.returncode, answer.stderr[-2000:])
    found = json.loads(answer.stdout)
    assert found["raised"] > 50
    assert found["acquired"] > 50
    assert {key: found[key] for key in ("shared", "size", "leased")} == {
        "shared": 0,
        "size": 2,
        "leased": 2,
    }
