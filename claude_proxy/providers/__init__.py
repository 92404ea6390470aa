"""Providers other than Claude: their endpoints, their names, and what each accepts."""
