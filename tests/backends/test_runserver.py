"""`manage.py runserver`, the real one, and what it does when a file was changed."""

from __future__ import annotations

import itertools
import os
import re
from typing import TYPE_CHECKING, Any

import psutil

from tests.support.databases import eventually
from tests.support.projects import Project
from tests.support.serving import URLS, Program, running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import PostgresDatabase


def test_reloading_leaves_no_session_behind(postgresql: PostgresDatabase, tmp_path: Path) -> None:
    """scenario 34: the new process has its own sessions, and the old one's are gone."""
    project = Project(tmp_path / "project", {"default": postgresql.entry})
    project.migrate()
    project.write("urls.py", URLS)
    file = project.folder / "urls.py"
    moments = itertools.count(int(file.stat().st_mtime) + 1)

    def ask(server: Program) -> Any:
        """Return who answers, and None while nobody does."""
        ports = re.findall(r"development server at http://127\.0\.0\.1:(\d+)/", server.log)
        if not ports:
            return None
        server.port = int(ports[-1])  # a free one each time it starts
        try:
            return server.get("/session")
        except AssertionError:
            server.assert_running()
            return None

    with running(
        project,
        *("manage.py", "runserver", "127.0.0.1:0"),
        environment={"PYTHONUNBUFFERED": "1"},
    ) as server:
        before = eventually(lambda: ask(server))
        assert postgresql.sessions() == [before["session"]]
        assert before["process"] != server.pid  # that is the one which starts it again

        def gone() -> bool:
            # Again and again: it sees changes only once it has looked at the file.
            moment = next(moments)
            os.utime(file, (moment, moment))
            return not psutil.pid_exists(before["process"])

        eventually(gone)
        after = eventually(lambda: ask(server))
        assert after["process"] != before["process"]
        assert after["session"] != before["session"]
        eventually(lambda: postgresql.sessions() == [ask(server)["session"]])
    eventually(lambda: not postgresql.sessions())
