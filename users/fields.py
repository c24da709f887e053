"""Model fields of the app."""

from typing import Any

from django.db import models


class LowercaseEmailField(models.EmailField):
    """An address kept, compared and looked up in lower case: unique means unique to people too."""

    def to_python(self, value: Any) -> Any:
        return _lowercase(super().to_python(value))

    def get_prep_value(self, value: Any) -> Any:
        return _lowercase(super().get_prep_value(value))


def _lowercase(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value
