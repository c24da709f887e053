"""Django's database backends, with a pool."""
