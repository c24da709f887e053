"""What a process pays for the shared cache does not grow with the number of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.shared_cache import measure
from tests.support.cache_servers import SERVERS, CacheServer

if TYPE_CHECKING:
    from django.conf import LazySettings


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.program)
def test_the_bytes_of_a_process_do_not_grow_with_the_fleet(
    kind: type[CacheServer], settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := kind.missing():
        pytest.skip(reason)
    # Once and not again, however slow the machine is: an addition to the history reads everything.
    monkeypatch.setattr("pooling.fleet.cache_store.ROLL_EVERY", 600.0)
    with kind() as server:
        settings.CACHES = {"default": server.caches}
        few, many = (measure(server, processes, 2.5) for processes in (4, 32))
    assert many.sent < 1.2 * few.sent
    assert many.received < 1.2 * few.received
