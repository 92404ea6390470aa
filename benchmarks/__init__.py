"""What parts of the proxy cost, measured: ``make bench``."""
