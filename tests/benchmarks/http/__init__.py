"""What a pool gives a whole page: `manage.py poolbench --suite http`."""

HOST = "127.0.0.1"
