"""The page "Connection pools": its addresses and views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.db.transaction import non_atomic_requests
from django.http import HttpResponseForbidden, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.cache import add_never_cache_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST, require_safe

from pooling import fleet
from pooling.admin import door
from pooling.admin.actions import BUTTONS, log, read_wish, what_it_hurts
from pooling.admin.tables import page
from pooling.admin.words import count
from pooling.fleet.aggregate import aggregate
from pooling.models import ConnectionPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

    from pooling.admin.door import Visitor

    View = Callable[[HttpRequest, Visitor], HttpResponse]
    Base = admin.ModelAdmin[ConnectionPool]
else:
    Base = admin.ModelAdmin  # which takes no parameter in Django 5.2

SLOWEST = 60
"""The longest pause that `?refresh=` offers, for browsers without JavaScript."""


@admin.register(ConnectionPool)
class ConnectionPoolAdmin(Base):
    """Shows the pools of all processes where other models have the list of their objects."""

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Pools come from the settings."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Pools go with their process."""
        return False

    def get_urls(self) -> list[Any]:
        """Return the page, the part of it that changes, and where its buttons lead."""

        def look(view: View) -> Any:
            return self._guard(require_safe(view))

        def act(view: View) -> Any:
            return self._guard(require_POST(view))

        return [
            path("", look(self.page_view), name="pooling_connectionpool_changelist"),
            path("live/", look(self.live_view), name="pooling_connectionpool_live"),
            path("do/", act(self.action_view), name="pooling_connectionpool_do"),
        ]

    def _url(self, name: str) -> str:
        return reverse(f"admin:pooling_connectionpool_{name}", current_app=self.admin_site.name)

    def _guard(self, view: View) -> Callable[[HttpRequest], HttpResponse]:
        """Let in who may see the page; see `door` for how that works without the database."""

        def let_in(request: HttpRequest) -> HttpResponse:
            visitor: Visitor = request.pooling_visitor  # type: ignore[attr-defined]
            if not visitor.may_view:
                return _denied(visitor)
            if not visitor.by_pass:
                door.leave_database_alone()
            response = view(request, visitor)
            door.give_pass(request, response, visitor, self._url("changelist"))
            return response

        by_admin = self.admin_site.admin_view(let_in)
        by_pass = never_cache(csrf_protect(let_in))

        # The admin's login_required and Django's middleware of that name would ask the database.
        @login_not_required
        @non_atomic_requests
        def guarded(request: HttpRequest) -> HttpResponse:
            try:
                visitor = door.recognise(request, self.admin_site.has_permission)
            except door.DatabaseAwayError:
                return self._sorry(request)
            request.pooling_visitor = visitor  # type: ignore[attr-defined]
            if visitor is not None and visitor.by_pass:
                return by_pass(request)
            return by_admin(request)

        return guarded

    def _sorry(self, request: HttpRequest) -> HttpResponse:
        context = {**self._frame(None, request), "title": "Connection pools"}
        response = TemplateResponse(request, "pooling/away.html", context, status=503).render()
        add_never_cache_headers(response)
        return response

    def _frame(self, visitor: Visitor | None, request: HttpRequest) -> dict[str, Any]:
        """Return what the admin's own templates need."""
        if visitor is not None and not visitor.by_pass:
            return self.admin_site.each_context(request)
        # Everything else that `each_context` has would ask who the user is.
        return {
            "site_title": self.admin_site.site_title,
            "site_header": self.admin_site.site_header,
            "site_url": self.admin_site.site_url,
            "has_permission": False,
            "is_popup": False,
            "is_nav_sidebar_enabled": False,
            "user": None,
        }

    def _context(self, request: HttpRequest, visitor: Visitor) -> dict[str, Any]:
        return {
            **self._frame(visitor, request),
            **page(fleet.read_all()),
            "title": "Connection pools",
            "visitor": visitor,
            "page_url": self._url("changelist"),
            "live_url": self._url("live"),
            "action_url": self._url("do"),
            "refresh": _refresh(request),
        }

    def page_view(self, request: HttpRequest, visitor: Visitor) -> HttpResponse:
        """Show the page."""
        context = self._context(request, visitor)
        return TemplateResponse(request, "pooling/page.html", context).render()

    def live_view(self, request: HttpRequest, visitor: Visitor) -> HttpResponse:
        """Show the part of the page that changes."""
        context = self._context(request, visitor)
        return TemplateResponse(request, "pooling/live.html", context).render()

    def action_view(self, request: HttpRequest, visitor: Visitor) -> HttpResponse:
        """Do something to a pool in all processes, after asking back where it hurts."""
        if not visitor.may_change:
            return _denied(visitor)
        seen = fleet.read_all()
        back = HttpResponseRedirect(self._url("changelist"))
        try:
            wish, pool = read_wish(request.POST, aggregate(seen.processes))
            fleet.check(wish.action, wish.pool, wish.arguments)
        except ValueError as error:
            messages.error(request, str(error))
            return back
        hurts = what_it_hurts(wish, pool)
        if hurts and "confirmed" not in request.POST:
            context = {
                **self._frame(visitor, request),
                "title": f"{BUTTONS[wish.action]} pool “{wish.pool}”?",
                "button": BUTTONS[wish.action],
                "wish": wish,
                "hurts": hurts,
                "page_url": self._url("changelist"),
                "action_url": self._url("do"),
            }
            return TemplateResponse(request, "pooling/confirm.html", context).render()
        # Suspending the database of the log must not keep the log from being written.
        log(visitor, wish)
        door.leave_database_alone()
        try:
            fleet.send(wish.action, wish.pool, **wish.arguments)
        except fleet.FleetError as error:
            messages.warning(request, f"{wish.done}, but in this process only: {error}.")
        else:
            processes = count(len(pool["parts"]), "process", "processes")
            messages.success(request, f"{wish.done} in {processes}.")
        return back


def _denied(visitor: Visitor) -> HttpResponse:
    if visitor.by_pass:  # a project's own page for this would perhaps greet the user by name
        return HttpResponseForbidden("You may look, but not touch.")
    raise PermissionDenied


def _refresh(request: HttpRequest) -> int | None:
    """Return the pause in seconds after which a browser without JavaScript shall load again."""
    try:
        seconds = int(request.GET.get("refresh", ""))
    except ValueError:
        return None
    return min(max(seconds, 1), SLOWEST)
