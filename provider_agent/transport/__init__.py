"""How frames travel: asyncio, shared by both sides."""
