"""An engine without a GPU: OpenAI and Ollama APIs with set speed, latency and failures."""
