from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.project.conftest import PRODUCTION, REPOSITORY, SECRET_KEY

if TYPE_CHECKING:
    from tests.project.conftest import Project


def test_production_needs_a_secret_key_and_says_how_to_make_one(project: Project) -> None:
    for environment in ({}, {"SECRET_KEY": ""}):
        message = project.error(**environment)
        assert "SECRET_KEY is not set" in message
        assert "secrets.token_urlsafe" in message


@pytest.mark.parametrize("command", ["poolstats", "check", "runserver"])
def test_a_command_without_a_secret_key_ends_with_one_line(project: Project, command: str) -> None:
    result = project.manage(command)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("SECRET_KEY is not set")
    assert "DEBUG=1" in line
    assert "Traceback" in project.manage(command, "--traceback").stderr


def test_debugging_brings_its_own_key(project: Project) -> None:
    settings = project.settings(DEBUG="True")
    assert settings["DEBUG"] is True
    assert settings["SECRET_KEY"].startswith("django-insecure-")
    assert project.settings(DEBUG="True", SECRET_KEY=SECRET_KEY)["SECRET_KEY"] == SECRET_KEY


def test_a_key_that_begins_with_a_dollar_sign_is_taken_as_it_is(project: Project) -> None:
    assert project.settings(SECRET_KEY="$" + SECRET_KEY)["SECRET_KEY"] == "$" + SECRET_KEY


def test_debugging_is_off_unless_asked_for(project: Project) -> None:
    assert project.settings(**PRODUCTION)["DEBUG"] is False
    assert project.settings(**PRODUCTION, DEBUG="off")["DEBUG"] is False


@pytest.mark.parametrize("value", ["ture", "", "2", "None"])
def test_a_flag_that_is_neither_true_nor_false_is_an_error(project: Project, value: str) -> None:
    message = project.error(**PRODUCTION, SECURE_SSL_REDIRECT=value)
    assert "SECURE_SSL_REDIRECT must be True or False" in message


def test_lists_are_separated_by_commas(project: Project) -> None:
    settings = project.settings(
        SECRET_KEY=SECRET_KEY,
        ALLOWED_HOSTS="a.example, b.example,",
        CSRF_TRUSTED_ORIGINS="https://a.example",
    )
    assert settings["ALLOWED_HOSTS"] == ["a.example", "b.example"]
    assert settings["CSRF_TRUSTED_ORIGINS"] == ["https://a.example"]
    assert project.settings(SECRET_KEY=SECRET_KEY)["ALLOWED_HOSTS"] == []


SECURE = {
    "SECURE_SSL_REDIRECT": True,
    "SESSION_COOKIE_SECURE": True,
    "CSRF_COOKIE_SECURE": True,
    "SECURE_HSTS_SECONDS": 3600,
    "SECURE_HSTS_INCLUDE_SUBDOMAINS": True,
    "SECURE_HSTS_PRELOAD": True,
}
INSECURE = dict.fromkeys(SECURE, False) | {"SECURE_HSTS_SECONDS": 0}


def test_https_is_required_in_production_alone(project: Project) -> None:
    assert project.settings(**PRODUCTION).items() >= SECURE.items()
    assert project.settings(DEBUG="True").items() >= INSECURE.items()


def test_everything_about_https_can_be_changed(project: Project) -> None:
    changed = {name: str(value) for name, value in INSECURE.items()}
    settings = project.settings(**PRODUCTION, **changed)
    assert settings.items() >= INSECURE.items()
    assert "SECURE_PROXY_SSL_HEADER" not in settings
    settings = project.settings(**PRODUCTION, TRUST_X_FORWARDED_PROTO="True")
    assert settings["SECURE_PROXY_SSL_HEADER"] == ["HTTP_X_FORWARDED_PROTO", "https"]


class TestEnvFile:
    def test_it_is_read_if_it_is_there(self, project: Project) -> None:
        (project.path / ".env").write_text("DEBUG=True\nPOOL_MAX_SIZE=7\n")
        settings = project.settings()
        assert settings["DEBUG"] is True
        assert settings["DATABASES"]["default"]["OPTIONS"]["pool"] == {"max_size": 7}

    def test_the_process_wins(self, project: Project) -> None:
        (project.path / ".env").write_text("DEBUG=True\nPOOL_MAX_SIZE=7\n")
        settings = project.settings(POOL_MAX_SIZE="3")
        assert settings["DATABASES"]["default"]["OPTIONS"]["pool"] == {"max_size": 3}

    def test_the_example_works_as_it_is(self, project: Project) -> None:
        (project.path / ".env").write_text((REPOSITORY / ".env.example").read_text())
        result = project.manage("check", "--fail-level", "WARNING")
        assert (result.returncode, result.stderr) == (0, "")

    def test_the_example_works_with_everything_in_it_switched_on(self, project: Project) -> None:
        example = (REPOSITORY / ".env.example").read_text()
        everything = re.sub(r"^#([A-Z_]+=)", r"\1", example, flags=re.MULTILINE)
        (project.path / ".env").write_text(everything)
        options = project.settings()["DATABASES"]["default"]["OPTIONS"]
        assert options["sslmode"] == "require"
        assert set(options["pool"]) == {"min_size", "max_size", "timeout", "recycle", "scope"}

    def test_the_example_explains_every_variable(self) -> None:
        example = (REPOSITORY / ".env.example").read_text()
        documented = set(re.findall(r"^#?([A-Z_]+)=", example, flags=re.MULTILINE))
        source = (REPOSITORY / "poolproject" / "settings.py").read_text()
        source += (REPOSITORY / "poolproject" / "database.py").read_text()
        source += (REPOSITORY / "poolproject" / "cache.py").read_text()
        used = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', source))
        options = ("min_size", "max_size", "timeout", "recycle", "scope")
        used |= {f"POOL_{name.upper()}" for name in options}
        assert documented == used


def test_warnings_of_the_pool_reach_the_console_and_its_chatter_does_not(project: Project) -> None:
    code = (
        "import django, logging; django.setup();"
        "logging.getLogger('pooling').warning('a pool warning');"
        "logging.getLogger('pooling').info('chatter')"
    )
    environment = PRODUCTION | {"DJANGO_SETTINGS_MODULE": "poolproject.settings"}
    result = project.python("-c", code, **environment)
    assert "WARNING pooling: a pool warning" in result.stderr
    assert "chatter" not in result.stderr
