"""What outlives a process and is shared by several."""
