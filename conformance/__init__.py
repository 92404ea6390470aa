"""What Claude Code expects of a gateway, as a table of checks against a running proxy."""
