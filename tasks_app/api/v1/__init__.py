"""Version 1 of the API. Within it, changes are additions only."""
