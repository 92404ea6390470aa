"""What stands between a client and a lane: the HTTP protocol, the gateway, the status."""
