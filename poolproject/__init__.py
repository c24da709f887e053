"""The demo project: one pooled database and an app that keeps it busy."""
