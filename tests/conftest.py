"""What holds for every test: logs stay out of the report, and CI draws the same examples each time."""

import io
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from provider_agent.telemetry import logs

# A machine's speed is no property of the code, and a landing must not depend on luck: new
# examples are for `make test` on a developer's machine.
settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """A crash that a test provokes on purpose would fill the report with its traceback."""
    logs.configure("critical", "json", io.StringIO())
    yield
    logs.configure("critical", "json", io.StringIO())
