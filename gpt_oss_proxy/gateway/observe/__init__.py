"""What an operator sees: log lines, metrics, tokens, health."""
