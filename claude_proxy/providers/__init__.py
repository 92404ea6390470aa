"""Providers that are not Claude: endpoints, names, and what each understands."""
