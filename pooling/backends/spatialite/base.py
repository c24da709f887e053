"""The pooled SpatiaLite backend. Needs what `django.contrib.gis` does, and SQLite's extensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.contrib.gis.db.backends.spatialite import base
from django.utils.functional import cached_property

from pooling.backends.features import GIS_TEST_SKIPS
from pooling.backends.sqlite3 import features
from pooling.backends.sqlite3.base import PooledSQLite

if TYPE_CHECKING:
    from collections.abc import Mapping


class PooledFeatures(features.PooledFeatures):
    """Mixed into Django's features for SpatiaLite."""

    @cached_property
    def pool_test_skips(self) -> dict[str, set[str]]:
        """Tests of Django's own suite that do not apply with a pool, by reason."""
        return {**super().pool_test_skips, **GIS_TEST_SKIPS}


class DatabaseWrapper(PooledSQLite, base.DatabaseWrapper):
    """Django's SpatiaLite wrapper, leasing its connections from a pool."""

    mixins: ClassVar[Mapping[str, type]] = {
        **PooledSQLite.mixins,
        "features_class": PooledFeatures,
    }
