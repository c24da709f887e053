"""Nobody gets the metrics but those who may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from pooling.metrics import access

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "a-token-that-is-long-enough"
URLS = ("/pooling/metrics", "/pooling/metrics.json", "/pooling/ready")
every_url = pytest.mark.parametrize("url", URLS)


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.metrics.urls"


def user(*permissions: str, **fields: Any) -> Any:
    made = get_user_model().objects.create_user(
        username="someone", email="someone@example.com", password="x", **fields
    )
    made.user_permissions.set(
        Permission.objects.filter(content_type__app_label="pooling", codename__in=permissions)
    )
    return made


def client_of(made: Any) -> Client:
    client = Client()
    client.force_login(made)
    return client


def routes(resolver: Any, prefix: str = "/") -> Iterator[str]:
    for each in resolver.url_patterns:
        if isinstance(each, URLResolver):
            yield from routes(each, f"{prefix}{each.pattern}")
        elif isinstance(each, URLPattern):
            yield f"{prefix}{each.pattern}"


def assert_nothing(response: Any) -> None:
    assert response.status_code in (302, 403, 404, 405)
    assert b"pooling_" not in response.content
    assert b"default" not in response.content


def test_these_tests_walk_every_address_of_the_project() -> None:
    """One that comes later has to come here, too."""
    assert sorted(routes(get_resolver("tests.metrics.urls"))) == sorted(URLS)


@pytest.mark.django_db
@every_url
@pytest.mark.parametrize("method", ["get", "head", "post", "put", "delete", "options", "patch"])
def test_the_anonymous_get_nothing(url: str, method: str) -> None:
    assert_nothing(getattr(Client(), method)(url))


@pytest.mark.django_db
@every_url
@pytest.mark.parametrize("permissions", [(), ("change_connectionpool",)])
def test_staff_without_the_permission_get_nothing(url: str, permissions: tuple[str, ...]) -> None:
    assert_nothing(client_of(user(*permissions, is_staff=True)).get(url))


@pytest.mark.django_db
@every_url
def test_a_user_who_was_deactivated_gets_nothing(url: str) -> None:
    made = user("view_connectionpool", is_staff=True)
    client = client_of(made)
    assert client.get(url).status_code == 200
    made.is_active = False
    made.save()

    assert_nothing(client.get(url))


@pytest.mark.django_db
@every_url
@pytest.mark.parametrize("fields", [{"is_staff": True}, {}])
def test_the_permission_opens_it(url: str, fields: dict[str, bool]) -> None:
    """Staff or not: this is no page of the admin."""
    response = client_of(user("view_connectionpool", **fields)).get(url)

    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]


@pytest.mark.django_db
@every_url
def test_a_superuser_may(url: str) -> None:
    made = user(is_superuser=True)

    assert client_of(made).get(url).status_code == 200


@every_url
def test_the_token_opens_it_without_any_query(url: str, settings: Any) -> None:
    """No `django_db`: a scraper must get its numbers while the database is the problem."""
    settings.POOLING = {"metrics_token": TOKEN}

    for scheme in ("Bearer", "bearer"):
        response = Client().get(url, headers={"Authorization": f"{scheme} {TOKEN}"})
        assert response.status_code == 200


@pytest.mark.django_db
@every_url
@pytest.mark.parametrize(
    "authorization",
    ["", TOKEN, "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer caf\u00e9"],
)
def test_any_other_token_opens_nothing(url: str, authorization: str, settings: Any) -> None:
    settings.POOLING = {"metrics_token": TOKEN}

    assert_nothing(Client().get(url, HTTP_AUTHORIZATION=authorization))
    assert_nothing(Client().get(f"{url}?token={TOKEN}"))


@pytest.mark.django_db
@every_url
@pytest.mark.parametrize("token", ["", None, "short", 1234567890123456789, b"bytes" * 9])
def test_a_token_that_is_none_opens_nothing(url: str, token: Any, settings: Any) -> None:
    settings.POOLING = {"metrics_token": token}

    for given in (token, "", "None"):
        assert_nothing(Client().get(url, HTTP_AUTHORIZATION=f"Bearer {given}"))


@every_url
@pytest.mark.parametrize(
    ("network", "address"),
    [
        ("127.0.0.1/32", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.0.0.0/8", "::ffff:10.1.2.3"),
        ("fd00::/8", "fd00::7"),
    ],
)
def test_a_network_opens_it(url: str, network: str, address: str, settings: Any) -> None:
    settings.POOLING = {"metrics_networks": ["192.0.2.0/24", network]}

    assert Client().get(url, REMOTE_ADDR=address).status_code == 200


@pytest.mark.django_db
@every_url
@pytest.mark.parametrize("address", ["10.0.0.2", "", "unix:", "::1", "not an address"])
def test_other_addresses_open_nothing(url: str, address: str, settings: Any) -> None:
    settings.POOLING = {"metrics_networks": ["127.0.0.1/32", "10.0.0.1/32"]}

    assert_nothing(Client().get(url, REMOTE_ADDR=address))


@pytest.mark.django_db
@every_url
@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"], ids=str.lower
)
def test_a_proxys_address_is_nobodys(url: str, header: str, settings: Any) -> None:
    """Behind a proxy on the same machine the whole world comes from 127.0.0.1."""
    settings.POOLING = {"metrics_networks": ["127.0.0.1/32"]}
    assert Client().get(url, REMOTE_ADDR="127.0.0.1").status_code == 200

    for text in ("203.0.113.9", "127.0.0.1", ""):
        assert_nothing(Client().get(url, REMOTE_ADDR="127.0.0.1", headers={header: text}))


@pytest.mark.django_db
@every_url
@pytest.mark.parametrize("networks", ["127.0.0.1", ["nonsense"], [None], [], None, 7])
def test_wrong_networks_open_nothing_and_break_nothing(
    url: str, networks: Any, settings: Any
) -> None:
    settings.POOLING = {"metrics_networks": networks}
    if networks == 7:
        settings.POOLING = 7

    assert_nothing(Client().get(url, REMOTE_ADDR="127.0.0.1"))


@every_url
def test_a_project_without_users_can_still_have_a_scraper(url: str, settings: Any) -> None:
    settings.MIDDLEWARE = []
    assert_nothing(Client().get(url))
    settings.POOLING = {"metrics_token": TOKEN}

    assert Client().get(url, HTTP_AUTHORIZATION=f"Bearer {TOKEN}").status_code == 200


@every_url
def test_a_project_that_wants_everybody_logged_in_lets_the_scraper_in(
    url: str, settings: Any
) -> None:
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    settings.POOLING = {"metrics_token": TOKEN}

    assert Client().get(url, HTTP_AUTHORIZATION=f"Bearer {TOKEN}").status_code == 200


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr(access.hmac, "compare_digest", lambda *both: compared.append(both) or False)
    monkeypatch.setattr(access, "_option", lambda name: TOKEN)

    class Request:
        META = {"HTTP_AUTHORIZATION": "Bearer wrong"}  # noqa: RUF012

    assert not access._has_token(Request())  # type: ignore[arg-type]
    assert compared == [(b"wrong", TOKEN.encode())]
