"""What outlives a request: what workers share."""
