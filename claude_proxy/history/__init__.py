"""The history: what was used, by hour and day, in a database of its own."""
