"""Measures what the parts of the proxy cost: ``make bench``."""
