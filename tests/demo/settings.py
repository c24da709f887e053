"""Settings of the demo: those of the project, on the demo's own server and cache."""

from poolproject.settings import *  # noqa: F403
from poolproject.settings import DATABASES

ROOT_URLCONF = "tests.demo.urls"
DATABASES["default"]["OPTIONS"]["pool"] = {
    "min_size": 1,
    "max_size": 4,
    "timeout": 3.0,
    "fail_fast": 2.0,
    "leak_after": 10.0,
}
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
