"""Serves one request: plan, attempts, relay and response."""
