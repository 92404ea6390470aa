"""The Messages API: requests, responses, errors."""
