"""Access control of the metrics.

Users need the permission to view the admin's page of the pools. A scraper, which cannot log in, is
admitted by `settings.POOLING` only:

- `metrics_token`: requests with the header `Authorization: Bearer <token>`;
- `metrics_networks`: direct connections from one of these networks.
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

MIN_TOKEN_LENGTH = 16

PROXY_HEADERS = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA")
"""Headers of a request that came through a proxy: its address is the proxy's."""


def may_read(request: HttpRequest) -> bool:
    """Tell whether a request may read the metrics.

    The user is checked last, so that a scraper needs no query and works while the database is
    unavailable.
    """
    if _from_known_network(request) or _has_token(request):
        return True
    user = getattr(request, "user", None)
    return user is not None and bool(user.has_perm(PERMISSION))


def problems(options: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with these options of `settings.POOLING`."""
    found = []
    token = options.get("metrics_token")
    if token is not None and not (isinstance(token, str) and len(token) >= MIN_TOKEN_LENGTH):
        # Without the token: check messages end up in logs.
        found.append(
            f"POOLING['metrics_token']: must be None or a string of at least {MIN_TOKEN_LENGTH} "
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
    if not isinstance(token, str) or len(token) < MIN_TOKEN_LENGTH:
        return False
    scheme, _, given = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        given.strip().encode("utf-8", "replace"), token.encode("utf-8", "replace")
    )


def _from_known_network(request: HttpRequest) -> bool:
    networks = _option("metrics_networks")
    if (
        not networks
        or isinstance(networks, str)
        or any(name in request.META for name in PROXY_HEADERS)
    ):
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
        except ValueError:  # reported by `manage.py check`
            continue
    return False
