"""Demo app: users and their permissions."""
