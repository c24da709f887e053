"""Model field for email addresses."""

from typing import Any

from django.db import models


class LowercaseEmailField(models.EmailField):
    """Email address stored and compared in lower case, so that uniqueness ignores case."""

    def to_python(self, value: Any) -> Any:
        return _lowercase(super().to_python(value))

    def get_prep_value(self, value: Any) -> Any:
        return _lowercase(super().get_prep_value(value))


def _lowercase(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value
