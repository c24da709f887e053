"""Settings for the test suite, independent of the demo project's.

The default database is SQLite in a file, and its test database is a file as well: pools stay out of
the way of in-memory databases, so a suite on Django's default test database would test no pool.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from tests.support.servers import choose_driver, settings_from_url

choose_driver()

BASE_DIR = Path(__file__).resolve().parent.parent


def _folder() -> Path:
    """Return the session's folder, or in a process outside of any session one that dies with it."""
    if folder := os.environ.get("TEST_FOLDER"):
        return Path(folder)
    made, owner = Path(tempfile.mkdtemp(prefix="pooling-tests-")), os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(made, ignore_errors=True))
    return made


FOLDER = _folder()

DATABASES = {
    "default": {
        "ENGINE": "pooling.backends.sqlite3",
        "NAME": FOLDER / "default.sqlite3",
        "TEST": {"NAME": FOLDER / "test-default.sqlite3"},
    },
}
if url := os.environ.get("TEST_POSTGRESQL_URL"):
    DATABASES["postgresql"] = settings_from_url(url, "pooling.backends.postgresql")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "pooling",
    "users",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "poolproject" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
ROOT_URLCONF = "poolproject.urls"
AUTH_USER_MODEL = "users.User"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["testserver", "127.0.0.1", "localhost"]
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
LOGIN_URL = "users:login"
