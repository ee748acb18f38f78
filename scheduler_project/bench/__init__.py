"""How fast the platform is, beside the stock way: what `make bench` measures."""
