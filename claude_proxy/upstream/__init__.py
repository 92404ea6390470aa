"""The way to the upstreams: headers and connections."""
