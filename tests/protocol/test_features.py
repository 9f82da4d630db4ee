"""Of several that have one model, only what all can do is promised."""

from provider_agent.protocol.features import in_common


def test_what_all_have_that_tell_is_promised() -> None:
    """Whoever gets the job can do it; who tells nothing takes nothing away."""
    assert in_common([{"vision", "tools"}, ("tools",), None]) == ("tools",)


def test_nobody_who_tells_is_not_the_same_as_nothing() -> None:
    """A client may still try."""
    assert in_common([None, None]) is None
    assert in_common([]) is None
    assert in_common([()]) == ()
