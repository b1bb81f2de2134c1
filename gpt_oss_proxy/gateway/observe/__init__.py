"""What an operator sees: log lines, metrics, token counts, health."""
