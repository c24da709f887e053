"""`make demo`: the admin page alive, with three web processes, a private PostgreSQL and a load."""
