"""What the coordinator remembers across restarts."""
