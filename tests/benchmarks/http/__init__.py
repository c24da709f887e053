"""The HTTP suite: what a pool gives a whole page."""

HOST = "127.0.0.1"
