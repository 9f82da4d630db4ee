"""Names for what is really served."""

import pytest

from provider_agent.backends.fingerprint import fingerprint


def test_equal_facts_have_equal_names() -> None:
    """In whatever order they were told; what was not told does not count."""
    assert fingerprint(a="x", b=1) == fingerprint(b=1, a="x", c=None, d="")


def test_another_fact_is_another_name() -> None:
    """A context, a quantisation, a template."""
    assert fingerprint(a="x", context=1024) != fingerprint(a="x", context=2048)


@pytest.mark.parametrize("nothing", [{}, {"a": None}, {"a": ""}, {"a": []}, {"a": {"b": 1}}])
def test_nothing_told_has_no_name(nothing: dict[str, object]) -> None:
    """Nor has what is neither text nor number: any program may be behind a port."""
    assert fingerprint(**nothing) is None


def test_a_text_that_no_frame_can_hold_has_a_name() -> None:
    """Half a surrogate pair."""
    assert fingerprint(template="\ud800") is not None
