"""The team's Claude credentials, and how Anthropic's responses change their state."""
