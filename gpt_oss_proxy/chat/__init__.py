"""The neutral middle: what is asked and what is answered, as values, known to client APIs and upstreams alike."""
