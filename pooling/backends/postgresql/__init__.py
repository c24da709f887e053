"""Django's PostgreSQL backend, with a pool: `ENGINE = "pooling.backends.postgresql"`."""
