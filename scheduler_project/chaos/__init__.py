"""The platform under faults, and whether its promises hold: `manage.py chaos`."""
