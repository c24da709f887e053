"""Several processes that share a file cache see each other and run each other's commands."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from django.db.utils import ConnectionHandler

from pooling import fleet
from tests.support.databases import eventually

if TYPE_CHECKING:
    from tests.conftest import DatabaseSettings
    from tests.fleet.conftest import Start

TOTALS = """(lambda seen: aggregate(seen.processes, seen.archive)[0]["stats"])(fleet.read_all())"""
"""What the page shows of the first pool."""


def test_processes_see_each_other_until_one_is_gone(start: Start) -> None:
    members = [start(), start(), start()]
    for member in members:
        member.use()
    everyone = {member.pid for member in members}
    for member in members:
        eventually(lambda member=member: member.sees() == everyone)
    members[0].kill()
    eventually(lambda: members[1].sees() == everyone - {members[0].pid})
    assert members[1].ask("[each['age'] for each in fleet.processes()][0]") == 0.0


def test_a_process_that_has_not_used_its_pool_publishes_nothing(start: Start) -> None:
    idle, busy = start(), start()
    busy.use()
    eventually(lambda: idle.sees() == {idle.pid, busy.pid})
    assert busy.sees() == {busy.pid}
    assert idle.ask("threading.active_count() - len(fleet.processes()[0]['pools'])") > 0


def test_a_process_that_starts_later_takes_over_a_resize(start: Start) -> None:
    first = start(max_size=4)
    first.use()
    first.ask("fleet.send('resize', 'default', max_size=5)")
    first.ask("fleet.send('resize', 'default', max_size=7)")
    later, other = start(max_size=4), start(max_size=6)
    for member in (later, other):
        member.use()
        eventually(lambda member=member: member.ask("fleet.processes()[0]['done']"))
    assert later.ask("get_pool().config.max_size") == 7
    assert other.ask("get_pool().config.max_size") == 7, "within the minute all follow"


def test_a_command_reaches_every_process_once(start: Start) -> None:
    first, second = start(max_size=4), start(max_size=4)
    for member in (first, second):
        member.use()
    eventually(lambda: first.sees() == second.sees() == {first.pid, second.pid})
    first.ask("fleet.send('resize', 'default', max_size=7)")
    first.ask("fleet.send('drain', 'default')")
    first.ask("fleet.send('suspend', 'default')")
    for member in (first, second):
        eventually(lambda member=member: member.ask("get_pool().stats().suspended"))
        assert member.ask("get_pool().config.max_size") == 7
    # A command still in the cache is not run again: later changes stay.
    second.ask("get_pool().resume()")
    second.ask("get_pool().resize(max_size=9)")
    # Cleared is what the page shows, not what metrics count.
    first.ask("fleet.send('clear', 'default')")
    eventually(lambda: second.ask(TOTALS)["connects"] == 0)
    assert second.ask("get_pool().stats().connects") > 0
    assert second.ask("(get_pool().stats().suspended, get_pool().config.max_size)") == [False, 9]
    first.ask("fleet.send('resume', 'default')")
    eventually(lambda: not first.ask("get_pool().stats().suspended"))


def test_a_command_for_one_process_leaves_the_others_alone(start: Start) -> None:
    first, second = start(), start()
    for member in (first, second):
        member.use()
    target = second.ask("fleet.snapshot()['id']")
    first.ask(f"fleet.send('suspend', 'default', process={target!r}, user='keeper')")
    eventually(lambda: second.ask("get_pool().stats().suspended"))
    assert not first.ask("get_pool().stats().suspended")


def test_a_command_for_one_pool_leaves_the_others_alone(start: Start) -> None:
    first, second = start(), start(name="reports")
    for member in (first, second):
        member.use()
    first.ask("fleet.send('suspend', 'reports')")
    eventually(lambda: second.ask("get_pool().stats().suspended"))
    assert not first.ask("get_pool().stats().suspended")


def test_a_fork_is_a_process_of_its_own(start: Start) -> None:
    member = start()
    member.use()
    # The child uses the pool, too, and then sleeps until it is killed.
    child = member.ask(
        "(lambda pid: pid or (connection.ensure_connection(), connection.close(),"
        " time.sleep(600)))(os.fork())"
    )
    try:
        eventually(lambda: member.sees() == {member.pid, child})
    finally:
        os.kill(child, signal.SIGKILL)
    eventually(lambda: member.sees() == {member.pid})
    member.ask(f"os.waitpid({child}, 0)[0]")


def test_this_process_is_always_there_and_fresh(
    shared_cache: None, start: Start, database_settings: DatabaseSettings
) -> None:
    other = start()
    other.use()
    handler = ConnectionHandler({"default": database_settings("pooling.backends.sqlite3")})
    handler["default"].ensure_connection()
    try:
        eventually(lambda: {each["pid"] for each in fleet.processes()} == {os.getpid(), other.pid})
        seen = fleet.read_all()
        assert seen.processes[0]["pid"] == os.getpid()
        assert seen.processes[0]["age"] == 0.0
        assert (seen.isolation_reason, seen.problem) == (None, None)
    finally:
        handler["default"].close()
        handler["default"].resolve_pool().close()


def test_processes_see_each_other_on_postgresql(start: Start) -> None:
    members = [start("postgresql"), start("postgresql")]
    for member in members:
        member.use()
    eventually(lambda: members[0].sees() == {member.pid for member in members})
    [name] = members[1].ask(
        "(lambda cursor: (cursor.execute('SHOW application_name'), cursor.fetchone())[1])"
        "(connection.cursor())"
    )
    assert name.startswith("pooling ")
    assert name.endswith(f":{members[1].pid}")
    [holder] = members[1].ask("fleet.snapshot()['pools'][0]['holders']")
    assert holder["thread"] == "MainThread"
