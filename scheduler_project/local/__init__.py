"""The whole platform on one machine: what `make up` and `make demo` start."""
