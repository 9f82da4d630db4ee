"""What we count and log."""
