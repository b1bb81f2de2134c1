"""Sockets, greenlets and the code that speed depends on. No other package knows about them."""
