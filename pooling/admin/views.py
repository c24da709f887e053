"""The page "Connection pools": its URLs and views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.db.transaction import non_atomic_requests
from django.http import HttpResponseForbidden, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.cache import add_never_cache_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST, require_safe

from pooling import fleet
from pooling.admin import access
from pooling.admin.actions import BUTTONS, action_warnings, log, parse_action
from pooling.admin.context import history, page
from pooling.fleet.aggregate import aggregate
from pooling.fleet.archive import TIERS
from pooling.formatting import plural
from pooling.models import ConnectionPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

    from pooling.admin.access import Viewer

    View = Callable[[HttpRequest, Viewer], HttpResponse]
    Base = admin.ModelAdmin[ConnectionPool]
else:
    Base = admin.ModelAdmin  # which takes no parameter in Django 5.2

MAX_REFRESH = 60
"""Largest value of `?refresh=` in seconds, for browsers without JavaScript."""


@admin.register(ConnectionPool)
class ConnectionPoolAdmin(Base):
    """Shows the pools of all processes in place of the change list."""

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Return False: pools come from the settings."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return False: pools end with their process."""
        return False

    def get_urls(self) -> list[Any]:
        """Return the URLs of the page, of its part that is updated, and of the actions."""

        def readable(view: View) -> Any:
            return self._guard(require_safe(view))

        def postable(view: View) -> Any:
            return self._guard(require_POST(view))

        return [
            path("", readable(self.page_view), name="pooling_connectionpool_changelist"),
            path("history/", readable(self.graph_view), name="pooling_connectionpool_history"),
            path("live/", readable(self.live_view), name="pooling_connectionpool_live"),
            path("do/", postable(self.action_view), name="pooling_connectionpool_do"),
        ]

    def _url(self, name: str) -> str:
        return reverse(f"admin:pooling_connectionpool_{name}", current_app=self.admin_site.name)

    def _guard(self, view: View) -> Callable[[HttpRequest], HttpResponse]:
        """Restrict a view to users with permission; see `access` for when the database is down."""

        def restricted(request: HttpRequest) -> HttpResponse:
            viewer: Viewer = request.pooling_viewer  # type: ignore[attr-defined]
            if not viewer.may_view:
                return _denied(viewer)
            if not viewer.by_cookie:
                access.release_connections()
            response = view(request, viewer)
            access.set_cookie(request, response, viewer, self._url("changelist"))
            return response

        by_admin = self.admin_site.admin_view(restricted)
        by_cookie = never_cache(csrf_protect(restricted))

        # The admin's login_required and Django's LoginRequiredMiddleware would query the database.
        @login_not_required
        @non_atomic_requests
        def guarded(request: HttpRequest) -> HttpResponse:
            try:
                viewer = access.authenticate(request, self.admin_site.has_permission)
            except access.UserDatabaseError:
                return self._unavailable(request)
            request.pooling_viewer = viewer  # type: ignore[attr-defined]
            if viewer is not None and viewer.by_cookie:
                return by_cookie(request)
            response = by_admin(request)
            if viewer is None and access.COOKIE in request.COOKIES:
                response.delete_cookie(access.COOKIE, self._url("changelist"), samesite="Strict")
            return response

        return guarded

    def _unavailable(self, request: HttpRequest) -> HttpResponse:
        context = {**self._frame(None, request), "title": "Connection pools"}
        response = TemplateResponse(
            request, "pooling/unavailable.html", context, status=503
        ).render()
        add_never_cache_headers(response)
        return response

    def _frame(self, viewer: Viewer | None, request: HttpRequest) -> dict[str, Any]:
        """Return the context of the admin's base templates."""
        if viewer is not None and not viewer.by_cookie:
            return self.admin_site.each_context(request)
        # The other keys of `each_context` would query the user.
        return {
            "site_title": self.admin_site.site_title,
            "site_header": self.admin_site.site_header,
            "site_url": self.admin_site.site_url,
            "has_permission": False,
            "is_popup": False,
            "is_nav_sidebar_enabled": False,
            "user": None,
        }

    def _context(self, request: HttpRequest, viewer: Viewer) -> dict[str, Any]:
        return {
            **self._frame(viewer, request),
            **page(fleet.read_all(), _range(request)),
            "title": "Connection pools",
            "viewer": viewer,
            "page_url": self._url("changelist"),
            "live_url": self._url("live"),
            "history_url": self._url("history"),
            "range": _range(request),
            "action_url": self._url("do"),
            "refresh": _refresh(request),
        }

    def page_view(self, request: HttpRequest, viewer: Viewer) -> HttpResponse:
        """Show the page."""
        context = self._context(request, viewer)
        return TemplateResponse(request, "pooling/page.html", context).render()

    def live_view(self, request: HttpRequest, viewer: Viewer) -> HttpResponse:
        """Show the part of the page that is updated."""
        context = self._context(request, viewer)
        return TemplateResponse(request, "pooling/live.html", context).render()

    def graph_view(self, request: HttpRequest, viewer: Viewer) -> HttpResponse:  # noqa: ARG002
        """Return the history for the graphs as JSON."""
        return JsonResponse(history(fleet.read_all(), _range(request)))

    def action_view(self, request: HttpRequest, viewer: Viewer) -> HttpResponse:
        """Run an action on a pool in all processes, after a confirmation if it affects callers."""
        if not viewer.may_change:
            return _denied(viewer)
        seen = fleet.read_all()
        back = HttpResponseRedirect(self._url("changelist"))
        try:
            action, pool = parse_action(request.POST, aggregate(seen.processes, seen.archive))
            fleet.check(action.action, action.pool, action.arguments)
        except ValueError as error:
            messages.error(request, str(error))
            return back
        warnings = action_warnings(action, pool)
        if warnings and "confirmed" not in request.POST:
            context = {
                **self._frame(viewer, request),
                "title": f"{BUTTONS[action.action]} pool “{action.name}”?",
                "button": BUTTONS[action.action],
                "action": action,
                "warnings": warnings,
                "page_url": self._url("changelist"),
                "action_url": self._url("do"),
            }
            return TemplateResponse(request, "pooling/confirm.html", context).render()
        # Logged first: suspending the pool of the log's database would block writing it.
        log(viewer, action)
        access.release_connections()
        try:
            who = {
                "user": viewer.name,
                "process": action.process,
                "lease": action.lease,
                "configured": pool["configured"],
            }
            arguments: dict[str, Any] = {**who, **action.arguments}
            fleet.send(action.action, action.pool, **arguments)
        except fleet.FleetError as error:
            messages.warning(request, f"{action.done}, but in this process only: {error}.")
        else:
            processes = plural(len(pool["live"]), "process", "processes")
            messages.success(request, f"{action.done} in {processes}.")
        return back


def _denied(viewer: Viewer) -> HttpResponse:
    if viewer.by_cookie:  # the project's own 403 page might query the user
        return HttpResponseForbidden("You may view the pools, but not change them.")
    raise PermissionDenied


def _range(request: HttpRequest) -> str:
    """Return the requested tier of the history."""
    wanted = request.GET.get("range", "")
    return wanted if wanted in TIERS else "5"


def _refresh(request: HttpRequest) -> int | None:
    """Return the requested seconds between reloads, for browsers without JavaScript."""
    try:
        seconds = int(request.GET.get("refresh", ""))
    except ValueError:
        return None
    return min(max(seconds, 1), MAX_REFRESH)
