"""The server: HTTP protocol, gateway, status routes, and the process's start and stop."""
