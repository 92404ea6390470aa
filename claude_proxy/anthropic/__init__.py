"""The Messages API: requests, responses and errors."""
