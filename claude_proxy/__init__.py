"""One LiteLLM proxy for a team of Claude Code users. Start reading in docs/architecture.md."""

from claude_proxy import guard

__version__ = "0.2.0"

guard.refuse()
