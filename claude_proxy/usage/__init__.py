"""What was used, and how it is shown."""
