"""The tree of errors is the table of what the wire calls them."""

import pytest

from provider_agent.backends import base
from provider_agent.backends.base import BackendError, BackendSettings
from provider_agent.protocol.errors import RULES, ErrorCode

KINDS: list[type[BackendError]] = [BackendError, *BackendError.__subclasses__()]


@pytest.mark.parametrize("kind", KINDS)
def test_each_error_carries_its_wire_code(kind: type[BackendError]) -> None:
    """Field note 30: nobody maps them again, least of all by words."""
    error = kind("no", http_status=418, retry_after_ms=5)

    assert error.code in RULES
    assert (str(error), error.message, error.http_status, error.retry_after_ms) == ("no", "no", 418, 5)


def test_no_two_errors_share_a_code() -> None:
    """But for the root and the plain failure."""
    codes = [kind.code for kind in KINDS if kind is not BackendError]

    assert len(set(codes)) == len(codes)
    assert ErrorCode.INTERNAL not in codes


@pytest.mark.parametrize("kind", KINDS)
def test_the_docstring_draws_the_whole_tree(kind: type[BackendError]) -> None:
    """Documentation is checked."""
    assert kind.__name__ in (base.__doc__ or "")


def test_a_key_is_not_shown() -> None:
    """Settings may end in a log or a traceback."""
    assert "sk-1" not in repr(BackendSettings("vllm", api_key="sk-1"))
