"""Who may read the metrics.

Whoever has the permission to see the admin's page of the pools may. A scraper, which cannot log in,
is let in by what `settings.POOLING` says, and by nothing else:

- `metrics_token`: whoever sends it as `Authorization: Bearer ...`;
- `metrics_networks`: whoever connects from one of these networks, directly.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings

if TYPE_CHECKING:
    from django.http import HttpRequest

PERMISSION = "pooling.view_connectionpool"

SHORTEST_TOKEN = 16

PROXIED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA")
"""A request with one of these came through a proxy: its address is the proxy's."""


def may_read(request: HttpRequest) -> bool:
    """Tell whether this request may have the metrics.

    The user comes last: a scraper is let in without a query, so that it gets its numbers even when
    the database is the problem.
    """
    if _from_known_network(request) or _has_token(request):
        return True
    user = getattr(request, "user", None)
    return user is not None and bool(user.has_perm(PERMISSION))


def problems(options: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with these options of `settings.POOLING`."""
    found = []
    token = options.get("metrics_token")
    if token is not None and not (isinstance(token, str) and len(token) >= SHORTEST_TOKEN):
        # Not repr(token): what is printed here ends up in logs.
        found.append(
            f"POOLING['metrics_token']: must be None or a string of at least {SHORTEST_TOKEN} "
            "characters"
        )
    networks = options.get("metrics_networks", ())
    if not isinstance(networks, (list, tuple, set, frozenset)):
        found.append(f"POOLING['metrics_networks']: must be a list of networks, not {networks!r}")
    else:
        for network in networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                found.append(f"POOLING['metrics_networks']: {error}")
    return found


def _option(name: str) -> Any:
    options = getattr(settings, "POOLING", None)
    return options.get(name) if isinstance(options, Mapping) else None


def _has_token(request: HttpRequest) -> bool:
    token = _option("metrics_token")
    if not isinstance(token, str) or len(token) < SHORTEST_TOKEN:
        return False
    scheme, _, given = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        given.strip().encode("utf-8", "replace"), token.encode("utf-8", "replace")
    )


def _from_known_network(request: HttpRequest) -> bool:
    networks = _option("metrics_networks")
    if not networks or isinstance(networks, str) or any(name in request.META for name in PROXIED):
        return False
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    for network in networks:
        try:
            if address in ipaddress.ip_network(network):
                return True
        except ValueError:  # `manage.py check` says so; here it just opens nothing
            continue
    return False
