"""Metrics of the pools: as text, as JSON, for prometheus_client and for OpenTelemetry.

`definitions` names the metrics, `families` computes their samples from snapshots, and the other
modules are the output formats.
"""
