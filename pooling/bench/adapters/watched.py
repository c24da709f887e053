"""The pool while somebody looks at it: what does watching cost?"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from typing import TYPE_CHECKING

from django.conf import settings

from pooling import fleet
from pooling.core.maintenance import MAINTENANCE
from pooling.fleet.publisher import PUBLISHER

from .orm import Pooled

if TYPE_CHECKING:
    from .base import Place

EVERY = 0.1
"""Seconds between two snapshots, and between two looks at all of them: twenty times as often as the
admin page with the defaults, so that the short turns of a benchmark get their share."""


class Watched(Pooled):
    """This project's backends, publishing, with the page open."""

    def __init__(self, place: Place) -> None:
        self._rooms = contextlib.ExitStack()
        folder = self._rooms.enter_context(tempfile.TemporaryDirectory(prefix="poolbench-"))
        backend = "django.core.cache.backends.filebased.FileBasedCache"
        settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": folder}}
        settings.POOLING = {"publish_every": EVERY}
        MAINTENANCE.accompany(PUBLISHER)
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="poolbench-watcher")
        super().__init__(place)
        self._watcher.start()

    def _watch(self) -> None:
        """Look at all processes, as the page does for each of its visitors."""
        while not self._closed.wait(EVERY):
            fleet.processes()

    def close(self) -> None:
        self._closed.set()
        self._watcher.join()
        super().close()
        settings.POOLING = {"publish_every": None}  # nothing more is to be written into the folder
        self._rooms.close()
