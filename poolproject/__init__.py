"""Demo project: one pooled database and an app with users."""
