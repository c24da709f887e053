"""Django's MySQL and MariaDB backend, with a pool: `ENGINE = "pooling.backends.mysql"`."""
