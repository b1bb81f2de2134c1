"""One file a client API: what a client sends ⇄ the neutral middle. Pure: no clock, no randomness, no sockets."""
