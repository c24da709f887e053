"""Every experiment of docs/benchmarking.md, small: the options are the page's own."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pooling.bench.arguments import make_plan
from pooling.bench.contenders import CONTENDERS
from pooling.bench.environment import find_program
from pooling.bench.plan import Plan
from pooling.bench.workloads import WORKLOADS
from pooling.management.commands.poolbench import Command
from tests.bench.test_poolbench import poolbench
from tests.support.mariadb import missing

PAGE = (Path(__file__).parents[2] / "docs/benchmarking.md").read_text()
SMALLER = {
    "crud": "--rounds=1 --iterations=8 --contender=stock,pooled",
    "iterations": "--rounds=1 --iterations=5 --contender=stock,pooled",
    "sqlite": "--rounds=1 --iterations=10",
    "simulated": "--rounds=2 --iterations=10 --simulated-open=10ms --simulated-query=1ms",
    "exhaustion": "--timeout=200ms --simulated-open=10ms",
    "connect": "--rounds=1 --iterations=4",
    "pool-size": "--rounds=1 --duration=0.1 --threads=2 --contender=pooled,native",
}


def experiments() -> list[list[str]]:
    section = PAGE.split("## The founding experiments")[1].split("\n## ")[0]
    return [shlex.split(each) for each in re.findall(r"\| `(--.+?)` \|", section)]


@pytest.mark.slow
@pytest.mark.parametrize("options", experiments(), ids=" ".join)
def test_an_experiment_runs_as_the_page_says(options: list[str], tmp_path: Path) -> None:
    if "mysql" in options and (reason := missing()):
        pytest.skip(reason)
    options = [each for each in options if not each.endswith(".html")]
    if "--report" in options:
        place = options.index("--report") + 1
        options[place:place] = [str(tmp_path / "report.html")]
    file = tmp_path / "result.json"
    name = next(each for each in SMALLER if each in {*options})
    if "exhaustion" in options:
        name = "exhaustion"
    out, _ = poolbench(*options, *SMALLER[name].split(), f"--json={file}")
    document = json.loads(file.read_text())

    assert out
    assert document["results"]
    assert document["left_out"] == []
    for each in document["results"]:
        if each["workload"] != "exhaustion":
            assert (each["errors"], each["note"]) == (0, None), each
            assert each["operations"] > 0
    if name == "crud":
        operations = {each["operation"] for each in document["results"]}
        assert operations == {"insert", "read", "update", "delete", "total"}
    if name == "exhaustion":
        notes = {each["contender"]: each["note"] for each in document["results"]}
        assert "after a release it was served in 0.0" in notes["simulated-pooled"]
    if name in ("iterations", "pool-size"):
        assert len({each["sweep"]["value"] for each in document["results"]}) > 1
        assert "<polyline" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_think_shows_what_a_lease_for_a_request_costs(tmp_path: Path) -> None:
    file = tmp_path / "think.json"
    contenders = ["stock", "pooled", *(["pgbouncer"] if find_program("pgbouncer") else [])]
    poolbench(
        *("--workload=think", "--engine=postgresql", "--rounds=1", "--duration=0.4"),
        *("--threads=10", "--pool-size=2", f"--contender={','.join(contenders)}"),
        f"--json={file}",
    )
    found: dict[str, Any] = {
        each["contender"]: each for each in json.loads(file.read_text())["results"]
    }
    assert [each["note"] for each in found.values()] == [None] * len(contenders)
    assert all(each["p50_ms"] >= 200 for each in found.values())
    assert found["pooled"]["peak_connections"] == 2
    # 10 threads wait in pairs for two connections, each of which is held for 200 ms.
    assert found["pooled"]["wait_share"] > 0.4
    if "pgbouncer" in found:
        assert found["pgbouncer"]["peak_connections"] <= 2
        assert found["pgbouncer"]["ratio"] > 2 * found["pooled"]["ratio"]


def test_think_is_about_leases_and_not_about_drivers() -> None:
    def names(*arguments: str) -> set[str]:
        parser = Command().create_parser("manage.py", "poolbench")
        options = vars(parser.parse_args(arguments))
        return {each.name for each in make_plan(("postgresql",), options).contenders}

    assert names("--workload=think") == set(WORKLOADS["think"].contenders)
    usual = names()
    assert {"stock-psycopg2", "persistent-psycopg2", "pooled-psycopg2"} < usual
    assert {"django-db-connection-pool", "django-db-connection-pool-psycopg2"} < usual
    assert not {"pgbouncer", "pooled-transaction", "bare", "asyncpg"} & usual
    assert names("--quick") == {"stock", "persistent", "pooled", "native"}
    assert "asyncpg" in names("--contender=all")


def test_contenders_that_are_for_one_workload_do_not_take_part_in_others(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    poolbench(
        *("--workload=connect", "--rounds=1", "--iterations=2", "--engine=sqlite"),
        f"--json={file}",
    )
    names = {each["contender"] for each in json.loads(file.read_text())["results"]}
    assert names == {"stock", "pooled"}
    # Unless they are named.
    named = Plan(contenders=(CONTENDERS["pgbouncer"],), workloads=(WORKLOADS["connect"],))
    assert named.trials("postgresql") > 0
    assert replace(named, usual_only=True).trials("postgresql") == 0


def test_an_open_loop_gives_a_curve_and_counts_from_when_a_request_was_due(tmp_path: Path) -> None:
    file, page = tmp_path / "rate.json", tmp_path / "rate.html"
    poolbench(
        *("--engine=simulated", "--workload=connect", "--rate=20,400", "--threads=8"),
        *("--simulated-open=0", "--simulated-query=10ms", "--simulated-unhealthy=0"),
        *("--pool-size=2", "--rounds=1", "--duration=1", "--contender=simulated-pooled"),
        *(f"--json={file}", f"--report={page}"),
    )
    slow, fast = json.loads(file.read_text())["results"]
    assert [each["sweep"] for each in (slow, fast)] == [
        {"name": "rate", "value": 20},
        {"name": "rate", "value": 400},
    ]
    assert 15 <= slow["operations"] <= 20
    # Two connections do 200 queries a second: at 400 the queue grows for the whole second.
    assert fast["operations"] + fast["errors"] == pytest.approx(400, abs=10)
    assert fast["max_ms"] > 500
    assert "p99 in milliseconds" in page.read_text() or fast["p99_ms"] is None
