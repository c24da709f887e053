"""The alert rules and the dashboard for Grafana, asked of a real Prometheus that scrapes a pool."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.wsgi import get_wsgi_application

import pooling
from tests.support.databases import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.databases import PostgresDatabase

DATA = Path(pooling.__file__).parent / "metrics"
DASHBOARD = json.loads((DATA / "grafana.json").read_text())
TOKEN = "a-token-that-is-long-enough"
CONFIG = """
global: {{scrape_interval: 100ms, scrape_timeout: 100ms, evaluation_interval: 100ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: pools
    metrics_path: /pooling/metrics
    authorization: {{credentials: {token}}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
VARIABLES = {"$pool": ".*", "$host": ".*", "$__rate_interval": "1m", "$__range": "1m"}
"""What Grafana puts in their place."""


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(settings: Any) -> Iterator[int]:
    """The port of a site with the metrics, in a thread of its own."""
    settings.ROOT_URLCONF = "tests.metrics.urls"
    settings.POOLING = {"metrics_token": TOKEN}
    with make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join(PATIENCE)


@pytest.fixture
def prometheus(site: int, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """A function that asks a Prometheus, which scrapes the site, for a path of its API."""
    if shutil.which("prometheus") is None:
        pytest.skip("needs Debian's package `prometheus`")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(rules=DATA / "alerts.yml", token=TOKEN, port=site))

    def get(path: str, **query: str) -> Any:
        where = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(where, timeout=PATIENCE) as answer:
            return json.load(answer)["data"]

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            targets = get("targets")["activeTargets"]
        except OSError:
            return False
        return [each["health"] for each in targets] == ["up"]

    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            eventually(is_ready)
            yield get
        finally:
            process.terminate()
            process.wait(PATIENCE)


def expressions() -> list[tuple[str, str]]:
    """Return the dashboard's queries, with the titles of their panels."""
    return [
        (panel["title"], target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    ]


def test_prometheus_answers_every_query_of_the_dashboard(
    postgresql: PostgresDatabase, prometheus: Callable[..., Any]
) -> None:
    wrappers = [postgresql.wrapper(pool={"name": "watched"}) for _ in range(3)]
    wrappers[0].ensure_connection()

    def work() -> None:
        """Let every number that the panels show change between two scrapes."""
        wrappers[1].ensure_connection()
        wrappers[1].resolve_pool().drain()
        wrappers[1].close()

    for title, expression in expressions():
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        waits = "wait_time" in expression  # nobody had to queue: p50 of nothing

        def answered(expression: str = expression, waits: bool = waits) -> bool:
            work()
            found = prometheus("query", query=expression)["result"]
            numbers = [float(each["value"][1]) for each in found]
            return bool(numbers) and (waits or all(number == number for number in numbers))

        try:
            eventually(answered)
        except AssertionError:
            pytest.fail(f"{title}: {expression} has no answer")


def test_prometheus_loads_the_alert_rules(
    postgresql: PostgresDatabase, prometheus: Callable[..., Any]
) -> None:
    wrapper = postgresql.wrapper(pool={"name": "watched"})
    wrapper.ensure_connection()
    wrapper.resolve_pool().suspend()
    (group,) = prometheus("rules")["groups"]
    assert len(group["rules"]) == (DATA / "alerts.yml").read_text().count("- alert: ")

    def suspension_is_pending() -> bool:
        (group,) = prometheus("rules")["groups"]
        assert {each["health"] for each in group["rules"]} <= {"ok", "unknown"}, group
        states = {each["name"]: each["state"] for each in group["rules"]}
        return states["PoolSuspended"] == "pending" and states["PoolServerDown"] == "inactive"

    eventually(suspension_is_pending)


def test_the_dashboard_can_be_imported() -> None:
    """What Grafana needs of it, as far as that can be told without one."""
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))
    assert used - {"__rate_interval", "__range", "__all"} == variables
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
