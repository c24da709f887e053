"""The demo project's settings, with the database of the contender that is measured."""

import json
import os

from poolproject.settings import *  # noqa: F403 - that is what it is for

DATABASES = {"default": json.loads(os.environ["POOLBENCH_DATABASE"])}
LOGGING_CONFIG = None
