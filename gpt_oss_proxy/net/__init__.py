"""Sockets, greenlets and speed: nobody else knows them."""
