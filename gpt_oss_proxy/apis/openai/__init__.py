"""OpenAI's formats."""
