"""The environment's settings as typed values."""
