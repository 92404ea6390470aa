"""Usage: its records, ledger, log and metrics."""
