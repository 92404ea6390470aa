"""One request on its way: the attempt, the response, the relay."""
