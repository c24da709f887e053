"""A load generator with random faults on real servers: `make soak`.

`load.py` has what threads do, `main_thread.py` what the main thread does under signals, `faults.py`
what happens to them all, `monitor.py` what must hold throughout, and `stress.py` the runs.
On PostgreSQL the pool shares a budget (`slots.py`) with other processes (`rivals.py`, `rival.py`),
and a standby is read through `ReplicaRouter` (`replicas.py`).
`python -m tests.soak.processes` runs many short processes and counts those that crash.
"""
