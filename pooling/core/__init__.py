"""The pool itself: standard library only, no Django, no driver.

Start reading at `pool.py`; `driver.py` says what the pool needs to know of a database.
"""
