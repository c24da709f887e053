"""The HTTP suite: `python -m tests.benchmarks http`, and the clients that load a site for it."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections

from pooling.bench.contenders import CONTENDERS
from pooling.bench.databases import SetupError
from tests.benchmarks.__main__ import main, make_http_plan
from tests.benchmarks.http import HOST, site, suite
from tests.benchmarks.http.load import Load
from tests.benchmarks.http.site import Site, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SMALL = ("http", "--workload=http-1", "--rounds=1", "--duration=0.3")


@pytest.mark.slow
def test_sites_are_loaded_in_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "http.json"
    aliases = set(connections.settings)

    assert main([*SMALL, "--contender=stock,pooled", f"--json={file}"]) == 0
    out = capsys.readouterr().out

    assert "Users list over HTTP, 1 process · 8 threads" in out
    document = json.loads(file.read_text())
    assert [each["contender"] for each in document["results"]] == ["stock", "pooled"]
    for each in document["results"]:
        assert (each["errors"], each["note"], each["rounds"]) == (0, None, 1)
        assert each["operations"] > 8
        assert 0 < each["p50_ms"] <= each["max_ms"]
        assert each["ratio"] > 0
    assert document["workloads"][0]["name"] == "http-1"
    assert document["settings"]["pool_size"] == 8
    assert set(connections.settings) == aliases


def test_the_plan_follows_the_knobs() -> None:
    usual = make_http_plan(
        contender=None, workload=None, quick=False, rounds=None, duration=None, seed=None
    )
    assert [each.name for each in usual.contenders] == ["stock", "persistent", "pooled", "native"]
    assert [each.name for each in usual.workloads or ()] == ["http-1", "http-4"]
    other = make_http_plan(
        contender=["pooled-psycopg2"],
        workload=["http-4"],
        quick=True,
        rounds=None,
        duration=1.5,
        seed=7,
    )
    assert [each.name for each in other.contenders] == ["pooled-psycopg2"]
    assert (other.rounds, other.duration, other.seed) == (3, 1.5, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workload=crud"], "no workload 'crud'.*http-1, http-4"),
        (["--contender=psycopg-pool"], "no contender 'psycopg-pool'.*stock, persistent"),
    ],
)
def test_bad_arguments_are_one_clear_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["http", *arguments]) == 1
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("module", "message"),
    [("gunicorn", "needs gunicorn: pip install gunicorn"), ("poolproject", "in a checkout")],
)
def test_what_is_missing_is_said_at_once(
    module: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(site, "find_spec", lambda name: None if name == module else name)
    assert main(SMALL) == 1
    assert message in capsys.readouterr().err


def test_a_database_that_is_not_there_is_one_clear_message(database_settings: Any) -> None:
    entry = database_settings("django.db.backends.postgresql", NAME="there_is_no_such_database")
    with pytest.raises(SetupError, match=r"could not be made.*there_is_no_such_database"):
        prepare(entry)


def test_a_server_that_does_not_start_is_one_clear_message(
    database_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "SERVER", "raise SystemExit(1)")
    entry = database_settings("django.db.backends.postgresql", NAME="postgres")
    with pytest.raises(SetupError, match="gunicorn does not answer"), Site(entry, 1, 1):
        pass


def test_every_contender_has_the_settings_of_the_load_suite(database_settings: Any) -> None:
    entry = database_settings("django.db.backends.postgresql", NAME="postgres")
    found = {each.name: suite.entry_of(each, entry, 8) for each in suite.CONTENDERS}

    assert found["pooled"]["ENGINE"] == "pooling.backends.postgresql"
    assert found["pooled"]["OPTIONS"]["pool"]["max_size"] == 8
    assert found["native"]["OPTIONS"]["pool"]["max_size"] == 8
    assert found["persistent"]["CONN_MAX_AGE"] is None
    assert found["stock"]["CONN_MAX_AGE"] == 0
    assert json.loads(json.dumps(found)) == found
    assert CONTENDERS["native"] in suite.CONTENDERS


# ---- the clients -------------- --------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """A site whose pages are their names."""

    def do_GET(self) -> None:
        if self.path == "/nothing":
            return
        if self.path == "/broken":
            self.send_error(500)
            return
        body = f"{self.path} {self.headers['Cookie']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer((HOST, 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def load(port: int, page: str, proof: str) -> Load:
    return Load(port=port, page=page, session="key", clients=2, proof=proof)


def test_clients_ask_again_and_again_and_every_answer_is_timed(port: int) -> None:
    report = load(port, "/page", "/page sessionid=key").trial(50)

    assert not report.errors
    assert len(report.latencies) >= 2
    assert len(report.rates) == 2
    assert all(0 < each < 20 for each in report.latencies)


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("/broken", "LoadError: HTTP/1.0 500 Internal Server Error"),
        ("/nothing", "LoadError: no answer"),
        ("/login", "LoadError: another page"),
    ],
)
def test_what_is_not_the_page_is_an_error(port: int, page: str, error: str) -> None:
    report = load(port, page, "/page").trial(30)

    assert report.latencies == []
    assert report.errors.keys() == {error}


def test_a_site_that_is_gone_is_an_error(port: int) -> None:
    gone = load(1, "/page", "")

    assert "ConnectionRefusedError" in next(iter(gone.trial(10).errors))
