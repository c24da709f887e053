"""The pool itself: standard library only, no Django, no driver.

Start reading at `pool.py`; `driver.py` is the interface to a database.
"""
