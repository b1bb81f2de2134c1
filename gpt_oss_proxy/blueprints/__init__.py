"""Flask, and only here: URLs, headers, statuses."""
