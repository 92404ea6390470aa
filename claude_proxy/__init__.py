"""One LiteLLM proxy for a team of Claude Code users. Start reading at ``callback.py``."""

from claude_proxy import guard

__version__ = "0.1.1"

guard.refuse()
