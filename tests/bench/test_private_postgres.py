"""A private PostgreSQL comes up as the present user, obeys, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from pooling.bench import private_postgres as module
from pooling.bench.private_postgres import PostgresUnavailableError
from pooling.bench.private_server import ServerError
from tests.support.postgres import PrivatePostgres, StopMode
from tests.support.servers import driver, execute, settings_from_url

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
OWNER = """
import sys, time
from tests.support.postgres import PrivatePostgres
{first}
server = PrivatePostgres()
server.start()
print(server.folder, server.pid, flush=True)
{then}
"""


COPYING = """
from pooling.bench import private_postgres as module
original = module.is_open_to_others
module.is_open_to_others = lambda path: "pginstall" not in str(path) and original(path)
"""


def run_owner(then: str, first: str = "") -> tuple[subprocess.Popen[str], Path, int]:
    """Start a process that owns a server; return it with the server's folder and pid."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(then=then, first=first)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert owner.stdout is not None
    line = owner.stdout.readline()
    if not line:
        pytest.fail(owner.communicate(timeout=20)[1])
    folder, pid = line.split()
    return owner, Path(folder), int(pid)


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(folder: Path, pid: int) -> None:
    deadline = time.monotonic() + 20
    while folder.exists() or is_alive(pid):
        assert time.monotonic() < deadline, (folder.exists(), is_alive(pid))
        time.sleep(0.02)


@pytest.fixture(scope="module")
def shared() -> Iterator[PrivatePostgres]:
    """A server for the tests that leave it as it was."""
    with PrivatePostgres() as server:
        yield server


def test_serves_stops_and_restarts_on_its_port_with_its_data(
    private_postgres: PrivatePostgres,
) -> None:
    execute(private_postgres.url, "CREATE TABLE kept (x int)", "INSERT INTO kept VALUES (7)")
    port = private_postgres.port

    private_postgres.stop()

    assert not private_postgres.is_running
    with pytest.raises(driver().OperationalError):
        execute(private_postgres.url, "SELECT 1")

    private_postgres.start()

    assert private_postgres.port == port
    assert execute(private_postgres.url, "SELECT x FROM kept") == [(7,)]


def test_is_a_postgresql_18_with_the_limit_asked_for() -> None:
    with PrivatePostgres(max_connections=23, configuration={"work_mem": "5MB"}) as private:
        show = "SELECT current_setting('server_version_num')::int / 10000,"
        show += " current_setting('max_connections'), current_setting('work_mem')"
        assert execute(private.url, show) == [(18, "23", "5MB")]
        assert execute(f"{private.url}?host={private.folder}", "SELECT 1") == [(1,)]


def test_refuses_a_wrong_password(shared: PrivatePostgres) -> None:
    stranger = shared.url.replace(shared.password, "guess")
    with pytest.raises(driver().OperationalError, match="password authentication failed"):
        execute(stranger, "SELECT 1")


def test_frozen_it_does_not_answer_and_thawed_it_goes_on(shared: PrivatePostgres) -> None:
    ssl_request = struct.pack("!ii", 8, 80877103)  # the shortest question there is
    shared.freeze()
    with socket.create_connection((shared.host, shared.port)) as client:
        client.sendall(ssl_request)
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        shared.thaw()
        client.settimeout(20)
        assert client.recv(1) == b"N"
    assert execute(shared.url, "SELECT 1") == [(1,)]


def test_database_settings_and_url_name_the_same_database(
    shared: PrivatePostgres,
) -> None:
    entry = shared.database_settings("some.engine", "shop")
    assert settings_from_url(shared.url_for("shop"), "some.engine") == {
        **entry,
        "OPTIONS": {},
    }


def test_obeys_every_way_to_stop_and_closing_removes_its_folder() -> None:
    private = PrivatePostgres()
    private.start()
    folder, pid = private.folder, private.pid
    assert folder is not None
    for mode in get_args(StopMode):
        private.restart(mode)
        assert not is_alive(pid)
        pid = private.pid
    private.close()
    private.close()
    assert not is_alive(pid)
    assert not folder.exists()


def test_an_exception_or_ctrl_c_in_the_block_removes_everything() -> None:
    private = PrivatePostgres()

    def interrupted() -> None:
        with private:
            seen.append((private.folder, private.pid))
            raise KeyboardInterrupt

    seen: list[tuple[Path | None, int]] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    [(folder, pid)] = seen
    assert folder is not None
    assert not folder.exists()
    assert not is_alive(pid)


def test_the_interpreters_exit_removes_everything() -> None:
    owner, folder, pid = run_owner("sys.exit(3)")
    assert owner.communicate(timeout=20) == ("", "")
    assert owner.returncode == 3
    assert not folder.exists()
    assert not is_alive(pid)


@pytest.mark.parametrize(
    ("number", "first"),
    [
        *((number, "") for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)),
        (signal.SIGKILL, COPYING),
    ],
    ids=["SIGINT", "SIGTERM", "SIGKILL", "SIGKILL with a copy of the programs"],
)
def test_a_signal_to_its_owner_removes_everything(number: signal.Signals, first: str) -> None:
    owner, folder, pid = run_owner("time.sleep(60)", first)
    assert (folder / "programs").exists() == bool(first and os.geteuid() == 0)
    owner.send_signal(number)
    owner.communicate(timeout=20)
    wait_until_gone(folder, pid)


def test_a_forked_child_does_not_end_its_parents_server(shared: PrivatePostgres) -> None:
    child = os.fork()
    if child == 0:
        shared.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert execute(shared.url, "SELECT 1") == [(1,)]


def test_a_server_that_does_not_start_quotes_its_log_and_leaves_nothing() -> None:
    private = PrivatePostgres(configuration={"work_mem": "many"})
    with pytest.raises(ServerError, match='invalid value for parameter "work_mem": "many"'):
        private.start()
    assert private.folder is None


def test_a_taken_port_is_named_in_the_error(shared: PrivatePostgres) -> None:
    with PrivatePostgres() as second:
        second.stop()
        second.port = shared.port
        with pytest.raises(ServerError, match="Address already in use"):
            second.start()


def test_a_missing_wheel_is_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHEEL", "no_such_wheel")
    private = PrivatePostgres()
    with pytest.raises(PostgresUnavailableError, match=r"pip install 'django-pooling\[bench\]'"):
        private.start()
    assert private.folder is None


def test_runs_from_a_copy_of_the_wheels_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    # What root does when its virtual environment is closed to the server's account.
    package = module.find_programs({}, Path()).parents[1]
    monkeypatch.setattr(
        module, "find_programs", lambda _, folder: module.copy_programs(package, folder / "copy")
    )
    with PrivatePostgres() as private:
        [(programs,)] = execute(private.url, "SELECT setting FROM pg_config WHERE name = 'BINDIR'")
        assert Path(programs).is_relative_to(private.folder)
        zones = "SELECT count(*) FROM pg_timezone_names WHERE name = 'Europe/Rome'"
        assert execute(private.url, zones) == [(1,)]


def test_a_copy_is_made_when_a_folder_above_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "wheel"
    for name in (
        "__init__.py",
        "pginstall18/bin/postgres",
        "pginstall18/share/postgresql/postgres.bki",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch(mode=0o755)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "WHEEL", "wheel")
    monkeypatch.setattr(module, "copy_programs", lambda source, target: target)
    tmp_path.chmod(0o700)

    account = {"user": 65534, "group": 65534}
    assert module.find_programs(account, Path("folder")) == Path("folder/programs")
    assert module.find_programs({}, Path("folder")) == package / "pginstall18" / "bin"


def test_what_all_users_may_read_is_not_copied(tmp_path: Path) -> None:
    assert module.is_open_to_others(Path("/bin/sh"))
    closed = tmp_path / "closed"
    closed.touch(mode=0o600)
    assert not module.is_open_to_others(closed)
