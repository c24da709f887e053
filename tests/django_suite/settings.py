"""Settings for Django's test suite; `tests.django_suite.suite` says which databases."""

from __future__ import annotations

import json
import os

# Django's own settings for its tests, beside its runtests.py.
from test_sqlite import *  # noqa: F403

from tests.support.servers import choose_driver, choose_mysql_driver

choose_driver()

DATABASES = json.loads(os.environ["DJANGO_SUITE_DATABASES"])
choose_mysql_driver(DATABASES)
TEST_RUNNER = "tests.django_suite.recorder.Runner"
