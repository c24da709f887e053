"""The HTTP suite: `python -m tests.benchmarks http`, and the clients that load a site for it."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections

from pooling.bench.contenders import CONTENDERS
from pooling.bench.databases import SetupError
from pooling.bench.measurements import PhaseReport, TrialReport
from pooling.bench.plan import Cell
from pooling.bench.runner import CellRecords, Record
from tests.benchmarks.__main__ import main, make_http_plan
from tests.benchmarks.http import HOST, site, suite, targets
from tests.benchmarks.http.load import Load
from tests.benchmarks.http.site import Site, prepare
from tests.benchmarks.http.targets import P99, RATE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack
    from pathlib import Path

    from pooling.bench.runner import Step
    from tests.benchmarks.micro.results import MicroRow

SMALL = ("http", "--workload=http-1", "--rounds=1", "--duration=0.3")


@pytest.mark.slow
def test_sites_are_loaded_in_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "http.json"
    aliases = set(connections.settings)

    assert main([*SMALL, "--contender=stock,pooled,native", f"--json={file}"]) == 0
    out = capsys.readouterr().out

    assert "Users list over HTTP, 1 process · 8 threads" in out
    assert "\n2 targets: " in out
    document = json.loads(file.read_text())
    assert [each["contender"] for each in document["results"]] == ["stock", "pooled", "native"]
    assert [each["what"] for each in document["rows"]] == [RATE, P99]
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


class Loads:
    """Takes the place of sites and of what loads them; notes what happens, in order."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def start(self, stack: ExitStack, *_: Any) -> dict[str, Loads]:
        self.notes.append("start")
        stack.callback(self.notes.append, "end")
        return {"pooled": self}

    def trial(self, milliseconds: int) -> PhaseReport:
        self.notes.append("warm up" if milliseconds == suite.WARM_UP else "round")
        return PhaseReport([0.1], 0.0, Counter(), 0.1, [])


def test_sites_are_started_anew_and_warmed_up_after_some_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads = Loads()
    monkeypatch.setattr(suite, "_sites", loads.start)
    plan = suite.make_plan(quick=False, rounds=4, contenders=(CONTENDERS["pooled"],))
    workload = suite.WORKLOADS["http-1"]
    steps: list[Step] = []

    provider: Any = SimpleNamespace(title="PostgreSQL")
    found = suite._run_cell(provider, plan, suite._cell(plan, workload), {}, "", steps.append)

    block = ["start", "warm up", *["round"] * suite.ROUNDS_PER_SITE, "end"]
    assert loads.notes == [*block, "start", "warm up", "round", "end"]
    assert list(found.records[0].rounds) == [1, 2, 3, 4]
    assert len(steps) * len(suite.WORKLOADS) == suite.steps(plan)


# ---- the targets -------------------------------------------------------------------------------


def record(name: str, *latencies: float, problem: str | None = None) -> Record:
    """Return what a contender has done in rounds of two requests, one after the other."""
    rounds = {
        number: {
            "http-1": TrialReport(
                {"http-1": PhaseReport([each / 2, each], 0.0, Counter(), 1.5 * each, [])}
            )
        }
        for number, each in enumerate(latencies, start=1)
    }
    return Record(CONTENDERS[name], rounds, problem=problem)


def target_rows(*records: Record) -> list[MicroRow]:
    cell = Cell(workloads=(suite.WORKLOADS["http-1"],), threads=8, pool_size=8, rounds=7)
    return targets.rows([CellRecords("PostgreSQL", "postgresql", cell, list(records))])


def test_a_target_compares_rates_and_the_slowest_round_by_round() -> None:
    rows = target_rows(record("pooled", *[0.1] * 7), record("native", *[0.2] * 6, 0.4))

    rate, p99 = rows
    assert (rate["title"], rate["what"]) == ("Users list over HTTP, 1 process", RATE)
    assert rate["against"] == p99["against"] == "Django's native pool"
    assert (rate["value"], rate["low"], rate["high"]) == pytest.approx((2, 2, 4))
    assert (p99["value"], p99["low"], p99["high"]) == pytest.approx((0.5, 0.25, 0.5))
    assert (p99["ours"], p99["theirs"]) == pytest.approx((0.1, 0.2))
    assert (rate["at_least"], p99["at_least"]) == (True, False)
    assert (rate["met"], p99["met"]) == (True, True)
    assert (rate["target"], rate["rounds"]) == (1, 7)


@pytest.mark.parametrize(("best", "met"), [(0.19, True), (0.21, False)])
def test_a_target_is_missed_if_its_interval_excludes_it(best: float, met: bool) -> None:
    rows = target_rows(
        record("pooled", *[0.3] * 6, best), record("persistent", *[0.2] * 7), record("stock", 0.1)
    )

    assert [each["met"] for each in rows] == [met, met]


def test_a_target_without_its_rounds_is_not_judged() -> None:
    apart = record("native", 0.1, 0.1)
    del apart.rounds[1]
    [rate, _] = target_rows(record("pooled", 0.1), apart)

    assert (rate["value"], rate["met"], rate["note"]) == (None, None, "not measured")
    assert target_rows(record("native", 0.1), record("persistent", 0.1)) == []
    assert target_rows(record("pooled", problem="gone"), record("native", 0.1)) == []


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
