"""The agent beside an LLM engine, and the coordinator between such agents and their clients."""

__version__ = "0.1.0"
