"""The benchmark: `make bench`, `make bench-quick`. See bench/__main__.py."""
