"""The doors of the coordinator: HTTP for clients, WebSocket for agents."""
