"""The benchmark behind `manage.py poolbench`: no argument parsing and no printing in here."""
