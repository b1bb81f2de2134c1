"""What happens between a client API and an upstream: route, admit, relay, count."""
