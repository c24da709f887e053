"""The pooled SpatiaLite engine."""
