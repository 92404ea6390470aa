"""One LiteLLM proxy for a team of Claude Code users. Start reading at ``callback.py``."""

__version__ = "0.1.0"
