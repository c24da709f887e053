"""What PostgreSQL with a pool can do."""

from __future__ import annotations

from django.db.backends.postgresql import features


class DatabaseFeatures(features.DatabaseFeatures):
    """Django's."""
