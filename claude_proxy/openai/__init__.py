"""The chat-completions format, which most providers speak: requests to it, and responses from it."""
