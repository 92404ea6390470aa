"""The chat-completions format, which most providers use: requests and responses."""
