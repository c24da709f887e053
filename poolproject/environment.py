"""Strict reading of environment variables: invalid values are errors that name the variable."""

import math
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

YES = {"1", "true", "yes", "on"}
NO = {"0", "false", "no", "off"}


class Environment(environ.Env):
    """django-environ with casts that reject invalid values.

    Its own casts are lenient: `DEBUG=ture` is False and `POOL_TIMEOUT=3O` is 3.0. Variables of the
    process take precedence over those in the file, which is optional.
    """

    def __init__(self, env_file: Path) -> None:
        super().__init__()
        self.read_env(env_file)

    def flag(self, name: str, *, default: bool) -> bool:
        if name not in self:
            return default
        value = self.str(name).strip().lower()
        if value not in YES | NO:
            raise ImproperlyConfigured(f"{name} must be True or False, not {value!r}.")
        return value in YES

    def whole_number(self, name: str) -> int:
        value = self.str(name).strip()
        try:
            return int(value)
        except ValueError:
            message = f"{name} must be a whole number, not {value!r}. {self._HOW_TO_UNSET}"
            raise ImproperlyConfigured(message) from None

    def seconds(self, name: str) -> float:
        value = self.str(name).strip()
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            message = f"{name} must be a number of seconds, not {value!r}. {self._HOW_TO_UNSET}"
            raise ImproperlyConfigured(message)
        return number

    def names(self, name: str) -> list[str]:
        """Split a comma-separated list; spaces around the commas are ignored."""
        return [part.strip() for part in self.str(name, default="").split(",") if part.strip()]

    def secret(self, name: str) -> str:
        """Return the raw value, or "" if it is not set.

        django-environ reads a leading `$` as a reference to another variable, and its error would
        print the rest; secrets may begin with a `$`.
        """
        return self.ENVIRON.get(name, "")

    _HOW_TO_UNSET = "Leave the variable out altogether to get the default."
