"""The pools' numbers for monitoring: as text, as JSON, for prometheus_client and OpenTelemetry.

`table` says what there is and by which names, `families` fills it with the numbers of processes,
and everything else writes that down in somebody's format.
"""
