"""Claude Code's expectations of a gateway, as a table of checks against a running proxy."""
