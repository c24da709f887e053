"""The project as it is put before the public."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.contrib.staticfiles import finders
from django.test import Client, override_settings
from django.urls import reverse

from poolproject.middleware import POLICY
from tests.project.conftest import PRODUCTION

if TYPE_CHECKING:
    from django.conf import LazySettings

    from tests.project.conftest import Project


def test_check_deploy_has_nothing_to_say(project: Project) -> None:
    result = project.manage("check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert (result.returncode, result.stderr) == (0, "")
    assert "no issues" in result.stdout


def test_check_deploy_refuses_the_key_for_debugging(project: Project) -> None:
    result = project.manage("check", "--deploy", "--fail-level", "WARNING", DEBUG="True")
    assert result.returncode == 1
    assert "security.W009" in result.stderr


def test_the_database_can_be_made_and_filled(project: Project) -> None:
    for command in (["migrate", "-v0"], ["seed_users", "20"], ["make_demo_user"]):
        result = project.manage(*command, DEBUG="True")
        assert result.returncode == 0, result.stderr
    assert (project.path / "db.sqlite3").exists()
    assert "Password: " in result.stdout
    assert "Password" not in result.stderr


def test_static_files_can_be_collected(project: Project) -> None:
    result = project.manage("collectstatic", "--no-input", "-v0", **PRODUCTION)
    assert (result.returncode, result.stderr) == (0, "")
    assert (project.path / "staticfiles" / "users" / "site.css").exists()


@pytest.mark.parametrize("server", ["wsgi", "asgi"])
def test_servers_find_the_application(project: Project, server: str) -> None:
    code = f"from poolproject.{server} import application; print(callable(application))"
    assert project.python("-c", code, **PRODUCTION).stdout == "True\n"


def test_static_files_are_found() -> None:
    assert finders.find("users/site.css")
    assert finders.find("users/icon.svg")


class TestContentSecurityPolicy:
    @pytest.fixture(autouse=True)
    def middleware(self, settings: LazySettings) -> None:
        settings.MIDDLEWARE = [
            "poolproject.middleware.content_security_policy",
            *(name for name in settings.MIDDLEWARE if not name.startswith("poolproject.")),
        ]

    def test_it_allows_nothing_inline_and_nothing_from_elsewhere(self) -> None:
        assert "default-src 'none'" in POLICY
        assert "unsafe" not in POLICY
        assert "http" not in POLICY

    @pytest.mark.django_db
    def test_every_response_carries_it(self) -> None:
        client = Client()
        for path in ("/", reverse("users:login"), reverse("admin:login"), "/nowhere/"):
            assert client.get(path)["Content-Security-Policy"] == POLICY

    @pytest.mark.django_db
    def test_the_debug_pages_which_style_themselves_do_not(self) -> None:
        with override_settings(DEBUG=True):
            client = Client()
            assert "Content-Security-Policy" not in client.get("/nowhere/")
            assert "Content-Security-Policy" in client.get(reverse("users:login"))
