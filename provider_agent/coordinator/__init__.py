"""The server between clients and agents."""
