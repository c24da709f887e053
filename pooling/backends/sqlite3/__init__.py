"""Django's SQLite backend, with a pool: `ENGINE = "pooling.backends.sqlite3"`."""
