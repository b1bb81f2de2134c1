"""What an upstream that takes text only cannot do, done on requests and events."""
