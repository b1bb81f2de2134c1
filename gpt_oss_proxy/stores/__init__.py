"""State that outlives a request: what the workers share."""
