"""A panel of django-debug-toolbar: what this request leased, and the pools around it.

DEBUG_TOOLBAR_PANELS = [..., "pooling.debug_toolbar.PoolingPanel"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from debug_toolbar.panels import Panel

from pooling.backends.lease_recorder import LeaseRecorder
from pooling.formatting import duration, plural
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase


class PoolingPanel(Panel):  # type: ignore[misc,unused-ignore]
    """Leases, waits, holds and pins of a request, with the numbers of this process's pools."""

    title = "Connection pools"
    nav_title = "Pools"
    template = "pooling/debug_toolbar_panel.html"
    _recorder: LeaseRecorder | None = None

    @property
    def nav_subtitle(self) -> str:
        """How often the request has leased, and how long it has waited."""
        stats = self.get_stats()
        leases = plural(len(stats.get("leases", ())), "lease")
        return f"{leases}, waited {stats.get('waited', '0 s')}"

    def enable_instrumentation(self) -> None:
        """Record from here."""
        if self._recorder is None:
            self._recorder = LeaseRecorder()
            self._recorder.__enter__()

    def disable_instrumentation(self) -> None:
        """End the recording."""
        if self._recorder is not None:
            self._recorder.__exit__(None, None, None)

    def generate_stats(self, request: HttpRequest, response: HttpResponseBase) -> None:  # noqa: ARG002
        """Keep what the template shows."""
        recorder = self._recorder
        if recorder is None:
            return
        leases = [
            {
                "alias": each.alias,
                "place": each.place,
                "waited": duration(each.waited),
                "held": None if each.began is None else duration(each.held),
                "lasts": each.began is not None and each.ended is None,
                "pin": each.pin,
            }
            for each in recorder.leases
        ]
        self.record_stats(
            {"leases": leases, "waited": duration(recorder.waited), "pools": _pools()}
        )

    def generate_server_timing(self, request: HttpRequest, response: HttpResponseBase) -> None:  # noqa: ARG002
        """Tell the browser's developer tools, too."""
        recorder = self._recorder
        if recorder is not None:
            title = f"Connection pools: {plural(len(recorder.leases), 'lease')}"
            self.record_server_timing("waited", title, recorder.waited * 1000)


def _pools() -> list[dict[str, Any]]:
    shown = ("name", "leased", "idle", "connecting", "waiting", "max_size", "timeouts", "rejected")
    every = [pool.stats() for pool in REGISTRY.pools()]
    return [{name: getattr(stats, name) for name in shown} for stats in every]
