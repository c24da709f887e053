"""The adapter to a pool whose statistics are published and read all the time: what does it cost?"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from typing import TYPE_CHECKING

from django.conf import settings

from pooling import fleet
from pooling.core.scheduler import SCHEDULER
from pooling.fleet.publisher import PUBLISHER

from .orm import Pooled

if TYPE_CHECKING:
    from .base import RunConfig

EVERY = 0.1
"""Seconds between two snapshots, and between two readings of all of them. So often that the short
trials of a benchmark get their share."""


class Watched(Pooled):
    name = "pooled-watched"
    title = "pooling, watched"
    how = (
        "As pooling, with snapshots published to a file cache and all of them read ten times a "
        "second, twenty times as often as an open admin page does."
    )
    on_request = True

    def __init__(self, config: RunConfig) -> None:
        self._folder = contextlib.ExitStack()
        folder = self._folder.enter_context(tempfile.TemporaryDirectory(prefix="poolbench-"))
        backend = "django.core.cache.backends.filebased.FileBasedCache"
        settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": folder}}
        settings.POOLING = {"publish_every": EVERY}
        SCHEDULER.add_periodic(PUBLISHER)
        self._closed = threading.Event()
        self._reader = threading.Thread(target=self._read, name="poolbench-reader")
        super().__init__(config)
        self._reader.start()

    def _read(self) -> None:
        """Read the snapshots of all processes, as the admin page does for each viewer."""
        while not self._closed.wait(EVERY):
            fleet.processes()

    def close(self) -> None:
        self._closed.set()
        self._reader.join()
        super().close()
        settings.POOLING = {"publish_every": None}  # write nothing more into the folder
        self._folder.close()
