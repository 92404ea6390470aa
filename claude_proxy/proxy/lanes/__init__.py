"""The ways of an attempt, one file each: a lane takes a request, a deployment and an outlet, and returns an outcome."""
