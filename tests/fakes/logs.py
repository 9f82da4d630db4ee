"""The log of the program, kept for a test to read."""

import io
import json
from typing import Any

from provider_agent.telemetry.logs import configure


class LogLines(io.StringIO):
    """Takes over the log, from debug on, for the rest of the test."""

    def __init__(self) -> None:
        super().__init__()
        configure("debug", "json", self)

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def named(self, event: str) -> list[dict[str, Any]]:
        """The entries of this event."""
        return [entry for entry in self.entries if entry["event"] == event]
