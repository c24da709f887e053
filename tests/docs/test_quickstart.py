"""The quick start is followed from `startproject` on, as a reader would."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.docs.examples import REPOSITORY, ScratchProject, blocks
from tests.support.servers import settings_from_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGE = REPOSITORY / "docs/quickstart.md"
STEPS = [block for block in blocks(PAGE) if block.language in ("sh", "python") and not block.reason]
ADDRESS = "127.0.0.1:8000"
SECONDS = 60.0


class Reader:
    """Follows the page: a folder, and the processes that are started in a terminal of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[subprocess.Popen[bytes]] = []
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"

    def type(self, commands: str, **environment: str) -> str:
        """Run the lines of a block; a server goes on running in the background."""
        printed = ""
        for line in commands.replace(ADDRESS, self.address).splitlines():
            if line.startswith("python -m django startproject"):
                self.project = ScratchProject(self.folder, line.split()[-1])
            elif line == f"cd {self.project.name}":
                assert self.project.settings.exists()
            elif line.endswith("runserver"):
                self.serve(line)
            else:
                printed += self.project.shell(line, **environment)
        return printed

    def serve(self, line: str) -> None:
        command = [*line.split(), "--noreload", self.address]
        self.servers.append(
            subprocess.Popen(
                command,
                cwd=self.project.root,
                env=self.project.environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        host, port = self.address.split(":")
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline
                assert self.servers[-1].poll() is None
                time.sleep(0.1)
            else:
                return


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    for server in reader.servers:
        server.terminate()
        server.wait(SECONDS)


def test_the_quick_start_works(
    reader: Reader, postgresql_url: str, new_database: Callable[[], str]
) -> None:
    start, sqlite, serve, look, postgresql, connect = STEPS
    reader.type(start.code)
    reader.project.append("settings.py", sqlite.code)
    assert "no issues" in reader.type(serve.code)

    # The server publishes what `poolstats` shows every two seconds.
    deadline = time.monotonic() + SECONDS
    while True:
        printed = reader.type(look.code)
        assert printed.startswith("200\n")
        rows = re.findall(r"^\S+ +(\d+) +default +5 .* ok$", printed, re.MULTILINE)
        if str(reader.servers[0].pid) in rows:
            break
        assert time.monotonic() < deadline, printed

    entry = settings_from_url(postgresql_url, "")
    name = new_database()
    assert '"shop"' in postgresql.code
    reader.project.append("settings.py", postgresql.code.replace('"shop"', repr(name)))
    printed = reader.type(
        connect.code,
        PGHOST=entry["HOST"] or entry["OPTIONS"].get("host", ""),
        PGPORT=entry["PORT"],
        PGUSER=entry["USER"],
        PGPASSWORD=entry["PASSWORD"],
    )
    assert "Applying auth.0001_initial... OK" in printed
    # The server of before may publish the last request only while `poolsize` looks.
    assert re.search("^(No load seen, no advice|max_size) for 'default'", printed, re.MULTILINE)
