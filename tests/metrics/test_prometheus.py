"""The collector for `prometheus_client`, alone and under its multiprocess mode."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from pooling import fleet
from pooling.metrics.exposition import render
from pooling.metrics.families import families
from pooling.metrics.prometheus import PoolCollector
from tests.metrics.samples import measured, pool, process
from tests.metrics.test_exposition import values

if TYPE_CHECKING:
    from tests.support.databases import Database

SEEN = [
    process(pool("shop", holds=measured(0.01, 3), timeouts=2), pool("other"), pid=1),
    process(pool("shop", waits=measured(0.5)), pid=2),
]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "processes", lambda: SEEN)


@pytest.mark.usefixtures("seen")
def test_it_says_what_our_own_text_says() -> None:
    registry = CollectorRegistry()
    registry.register(PoolCollector())

    theirs = values(generate_latest(registry).decode(), read_prometheus)
    ours = values(render(families(SEEN), openmetrics=False), read_prometheus)
    assert theirs == ours

    theirs = values(generate_openmetrics(registry).decode(), read_openmetrics)
    assert theirs == ours


def test_registering_it_looks_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise AssertionError("nobody asked for numbers")

    monkeypatch.setattr(fleet, "processes", fail)

    CollectorRegistry(auto_describe=True).register(PoolCollector())


def test_registering_two_is_refused() -> None:
    registry = CollectorRegistry()
    registry.register(PoolCollector())

    with pytest.raises(ValueError, match="pooling_connections"):
        registry.register(PoolCollector())


def test_it_can_be_held_to_its_own_process(database: Database, seen: None) -> None:
    database.wrapper(pool={"name": "mine"}).ensure_connection()
    registry = CollectorRegistry()
    registry.register(PoolCollector(all_processes=False))
    found = values(generate_latest(registry).decode(), read_prometheus)

    assert {key[1] for key in found} >= {"mine"}
    assert {key[3] for key in found} == {str(os.getpid())}


MULTIPROCESS = """
import os, sys
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["pooling"],
    DATABASES={"default": {
        "ENGINE": "pooling.backends.sqlite3", "NAME": "db.sqlite3",
        "OPTIONS": {"pool": {"min_size": 0}},
    }},
    CACHES={"default": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": "cache",
    }},
    POOLING={"publish_every": 0.05},
)
import django

django.setup()
import time
from django.db import connection
from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess, values
from pooling import fleet
from pooling.metrics.prometheus import PoolCollector

counter = Counter("requests", "Requests.")
counter.inc()
connection.ensure_connection()
if sys.argv[1:] == ["worker"]:
    print(os.getpid(), flush=True)
    sys.stdin.read()
else:
    worker = int(sys.argv[1])
    deadline = time.monotonic() + 20
    while worker not in {each["pid"] for each in fleet.processes()}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    registry.register(PoolCollector())
    print(os.getpid())
    print(generate_latest(registry).decode())
"""


def test_under_the_multiprocess_mode_every_process_is_there(tmp_path: Path) -> None:
    """Its own metrics come from files; ours come from the cache, with the process as a label."""
    (tmp_path / "metrics").mkdir()
    (tmp_path / "script.py").write_text(MULTIPROCESS)
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")])
    )
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "text": True}
    command = [sys.executable, "script.py"]
    worker = subprocess.Popen(
        [*command, "worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
    )
    try:
        assert worker.stdout is not None
        pid = worker.stdout.readline().strip()
        answer = subprocess.run(
            [*command, pid], check=True, capture_output=True, timeout=60, **options
        )
    finally:
        worker.communicate("", timeout=20)
    own, _, text = answer.stdout.partition("\n")
    found = values(text, read_prometheus)

    assert found[("requests_total",)] == 2
    used = {key[3] for key, value in found.items() if key[0] == "pooling_connections" and value}
    assert used == {own, pid}


def test_without_the_extra_only_the_collector_is_missing(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['prometheus_client'] = None; sys.modules['opentelemetry'] = None\n"
        "from django.conf import settings; settings.configure(INSTALLED_APPS=['pooling'])\n"
        "import django; django.setup()\n"
        "import pooling.metrics.views, pooling.urls\n"
        "for name in 'prometheus', 'opentelemetry':\n"
        "    try:\n        __import__(f'pooling.metrics.{name}')\n"
        "    except ImportError:\n        print(name)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert answer.stdout == "prometheus\nopentelemetry\n"


def test_the_collector_does_not_disturb_other_metrics() -> None:
    registry = CollectorRegistry()
    registry.register(PoolCollector(all_processes=False))
    Counter("mine", "Mine.", registry=registry).inc()

    assert b"mine_total 1.0" in generate_latest(registry)
