"""The pool itself: standard library only, no Django, no driver.

Start reading at `pool.py`, the public methods, and `state.py`, the decisions behind them: owners,
queue, what to open. `driver.py` is the interface to a database.
"""
