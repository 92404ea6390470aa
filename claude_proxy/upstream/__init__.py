"""Requests to the upstreams: headers and connections."""
