"""Usage: its records, log and metrics."""
