"""What the pool itself costs, as ratios within one run: `manage.py poolbench --suite micro`."""
