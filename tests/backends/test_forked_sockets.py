"""What a forked child says on its parent's sockets: nothing, however it ends."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.support.projects import HELPERS, SECONDS, Project
from tests.support.recording_proxy import RecordingProxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import PostgresDatabase

PARENT = """
import gc, signal
signal.alarm(80)  # rather than hang

def mark(wrapper):
    '''Say something on a connection: what was said there before has arrived, too.'''
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]

def mark_all():
    sessions = [mark(connection), mark(leased), mark(idle)]
    idle.close()
    return sessions

def report(*what):
    '''Tell the test, and wait until it has looked at the sockets.'''
    print(*what, flush=True)
    sys.stdin.readline()

leased, idle = connections["default"].copy(), connections["default"].copy()
block = transaction.atomic()
block.__enter__()
rows = leased.chunked_cursor()
rows.execute("SELECT generate_series(1, 500)")
sessions = mark_all()
assert get_pool().stats().leased == 2 and get_pool().stats().idle == 1
report()
assert mark_all() == sessions
report()
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
others, codes = set(), {"sys.exit(3)": 3, "raise ValueError('meant')": 1}
for end in {ends!r}:
    # A child that uses the database as it ends has a connection in any case.
    for connects in [False, True][: 1 if "connection" in end or "pool" in end else 2]:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(40)
            os.close(reader)
            if connects:
                os.write(writer, b"%d" % mark(connection))
            os.close(writer)
            del leased, idle, block
            gc.collect()
            exec(end)
            sys.exit()
        os.close(writer)
        with open(reader, "rb") as pipe:
            others.update(int(line) for line in pipe)
        _, status = os.waitpid(child, 0)
        assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == codes.get(end, 0), (end, status)
        assert mark_all() == sessions
        report()
assert len(others) == {connecting} and not others & set(sessions), (others, sessions)
rows.close()
block.__exit__(None, None, None)
assert get_pool().stats().connects == 3
report("end")
"""
ENDS = {
    "the end of the program": "",
    "sys.exit": "sys.exit(3)",
    "os._exit": "os._exit(0)",
    "an exception": "raise ValueError('meant')",
    "in a transaction": "transaction.atomic().__enter__(); mark(connection)",
    "with a lease": "kept = get_pool().acquire()",
    "with an idle connection": "mark(connection); connection.close()",
    "closing everything": "connections.close_all(); get_pool().close()",
    # psycopg2's cursors cannot be told that the connection is not theirs.
    "closing a cursor": "None if hasattr(rows, 'tzinfo_factory') else rows.close()",
}


def test_a_child_says_nothing_on_its_parents_sockets(
    postgresql: PostgresDatabase, tmp_path: Path
) -> None:
    """scenario 32, scenario 33: the parent's connections are not the child's to talk on.

    It has an idle one and two that are leased, one of these in a transaction. Between two marks of
    the parent on each of them there is nothing but the second mark, byte by byte, and children that
    do connect have sessions of their own.
    """
    host, port = postgresql.entry["HOST"], int(postgresql.entry["PORT"])
    with RecordingProxy(host, port) as wire:
        options = {**postgresql.entry["OPTIONS"], "sslmode": "disable", "gssencmode": "disable"}
        options["pool"] = {"min_size": 0, "ping_after": None}
        entry = {**postgresql.entry, "HOST": wire.host, "PORT": wire.port, "OPTIONS": options}
        project = Project(tmp_path / "project", {"default": entry})
        project.write(
            "script.py",
            "import django\ndjango.setup()\n"
            + HELPERS
            + PARENT.replace("{ends!r}", repr(list(ENDS.values()))).replace("{connecting}", "5"),
        )
        with subprocess.Popen(
            project.command("script.py"),
            cwd=project.folder,
            env=project.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as parent:
            assert parent.stdin is not None
            assert parent.stdout is not None
            assert parent.stderr is not None
            snapshots = []
            for line in parent.stdout:
                snapshots.append(wire.sent_by_each()[:3])
                parent.stdin.write("\n")
                parent.stdin.flush()
                if line == "end\n":
                    break
            _, errors = parent.communicate(timeout=SECONDS)
            assert parent.returncode == 0, errors
    assert "Warning" not in errors, errors
    assert errors.count("Error") == errors.count("ValueError: meant")
    first, second, *later, _ = snapshots
    marks = [after[len(before) :] for before, after in zip(first, second, strict=True)]
    assert all(b"pg_backend_pid" in mark for mark in marks)
    assert len(later) == len(ENDS) + 5
    before = second
    for after in later:
        said = [new[len(old) :] for old, new in zip(before, after, strict=True)]
        assert said == marks
        before = after
