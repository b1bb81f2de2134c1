"""gunicorn's gevent worker, adapted for this gateway."""
