"""The configuration: environment, config.yaml, credentials and users."""
