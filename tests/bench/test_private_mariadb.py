"""A private MariaDB comes up, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pooling.bench.private_mariadb import PrivateMariaDB
from pooling.bench.private_server import ServerError
from tests.bench.test_private_postgres import ROOT, is_alive, wait_until_gone
from tests.support.mariadb import missing

if TYPE_CHECKING:
    from tests.support.mariadb import PrivateMariaDB as TestServer

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")

OWNER = """
import sys, time
from pooling.bench.private_mariadb import PrivateMariaDB
server = PrivateMariaDB()
server.start()
print(server.folder, flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["sys.exit(3)", "time.sleep(60)"], ids=["exit", "SIGKILL"])
def test_it_ends_with_its_owner(then: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(then=then)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().strip())
    pid_file = folder / "pid"
    pid = int(pid_file.read_text()) if pid_file.exists() else 0
    if "sleep" in then:
        owner.send_signal(signal.SIGKILL)
    owner.communicate(timeout=20)
    wait_until_gone(folder, pid)


def test_ctrl_c_in_the_block_removes_everything() -> None:
    private = PrivateMariaDB()

    def interrupted() -> None:
        with private:
            assert private.folder is not None
            seen.append((private.folder, int((private.folder / "pid").read_text())))
            raise KeyboardInterrupt

    seen: list[tuple[Path, int]] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    [(folder, pid)] = seen
    assert not folder.exists()
    assert not is_alive(pid)


def test_its_temporary_files_are_out_of_the_reach_of_other_servers(
    mariadb_server: TestServer,
) -> None:
    """One that starts removes what begins with "#sql" in its folder for them, whoever uses it."""
    [(folder,)] = mariadb_server.execute("SELECT @@tmpdir")
    assert folder == f"{mariadb_server.folder}/temporary"


def test_a_server_that_does_not_start_quotes_its_log_and_leaves_nothing() -> None:
    private = PrivateMariaDB(no_such_option="many")
    with pytest.raises(ServerError, match="unknown variable 'no-such-option=many'"):
        private.start()
    assert private.folder is None
