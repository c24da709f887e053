"""The pooled PostGIS engine."""
