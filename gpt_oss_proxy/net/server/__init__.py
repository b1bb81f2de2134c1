"""gunicorn's gevent worker, as this gateway needs it."""
