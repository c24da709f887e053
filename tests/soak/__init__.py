"""A long rain of random work and random faults on a real server: `make soak`.

`load.py` has what the threads do, `faults.py` what happens to them, `watch.py` what must be true
all the time, and `storm.py` puts them together.
"""
