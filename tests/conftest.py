"""What holds for every test: logs are kept out of the report."""

import io
from collections.abc import Iterator

import pytest

from provider_agent.telemetry import logs


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """A crash that a test provokes on purpose would fill the report with its traceback."""
    logs.configure("critical", "json", io.StringIO())
    yield
    logs.configure("critical", "json", io.StringIO())
