"""What is set: the environment, config.yaml, users."""
