"""Schema editor: renew the pools' sessions after `CREATE EXTENSION`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.db.backends.postgresql import schema


if TYPE_CHECKING:
    _Editor = schema.DatabaseSchemaEditor
else:
    _Editor = object


class PooledSchemaEditor(_Editor):
    """Mixed into a PostgreSQL engine's editor, for sessions that outlive a request.

    Django registers the types of `hstore` and `citext` with each new connection, if they exist.
    """

    def execute(self, sql: Any, params: Any = ()) -> Any:
        """Run a statement; after `CREATE EXTENSION` drain the pools, as soon as it is committed."""
        result = super().execute(sql, params)
        if not self.collect_sql and "CREATE EXTENSION" in str(sql).upper():
            wrapper: Any = self.connection
            if wrapper.in_atomic_block or wrapper.get_autocommit():
                wrapper.on_commit(wrapper.drain_database)
            else:
                wrapper.drain_database()
        return result
