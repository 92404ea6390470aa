"""The lanes, one file each: a lane makes one attempt, from request, deployment and outlet to an outcome."""
