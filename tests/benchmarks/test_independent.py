"""The script that shares nothing with the benchmark runs, and finds the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.db import connections

from tests.benchmarks.independent import CONTENDERS, main
from tests.support.servers import execute

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def no_aliases_left() -> Iterator[None]:
    before = dict(connections.settings)
    yield
    for name in connections.settings.keys() - before.keys():
        connections[name].close()
        if hasattr(connections[name], "close_pool"):
            connections[name].close_pool()
        del connections[name], connections.settings[name]


@pytest.mark.usefixtures("no_aliases_left")
def test_a_pool_is_faster_than_none(
    postgresql_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        ratios = main(postgresql_url, seconds=0.3, rounds=1)
    finally:
        execute(postgresql_url, "DROP TABLE IF EXISTS independent_item")
    assert ratios.keys() == CONTENDERS.keys()
    assert ratios["stock"] == 1
    assert ratios["pooling"] > 1
    assert "pooling: " in capsys.readouterr().out
