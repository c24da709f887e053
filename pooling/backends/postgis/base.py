"""The pooled PostGIS backend. Needs GEOS and GDAL, as `django.contrib.gis` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.contrib.gis.db.backends.postgis import base
from django.utils.functional import cached_property

from pooling.backends.features import GIS_TEST_SKIPS
from pooling.backends.postgresql import features
from pooling.backends.postgresql.base import PooledPostgreSQL

if TYPE_CHECKING:
    from collections.abc import Mapping


class PooledFeatures(features.PooledFeatures):
    """Mixed into Django's features for PostGIS."""

    @cached_property
    def pool_test_skips(self) -> dict[str, set[str]]:
        """Tests of Django's own suite that do not apply with a pool, by reason."""
        return {**super().pool_test_skips, **GIS_TEST_SKIPS}


class DatabaseWrapper(PooledPostgreSQL, base.DatabaseWrapper):
    """Django's PostGIS wrapper, leasing its connections from a pool."""

    mixins: ClassVar[Mapping[str, type]] = {
        **PooledPostgreSQL.mixins,
        "features_class": PooledFeatures,
    }

    def prepare_database(self) -> None:
        """Create the extension, and renew sessions that do not know its types."""
        super().prepare_database()
        self.drain_database()
