"""Gnomon with one safeguard taken out at a time, to show that the suite sees it."""
