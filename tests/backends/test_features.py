"""What an engine tells of a model becomes the four words of the wire, and its silence stays silence."""

from provider_agent.backends.features import features, listed


def test_what_is_true_counts() -> None:
    """What is false is not there, and what is neither was not told."""
    assert features(tools=True, vision=False, audio=None) == frozenset({"tools"})


def test_nothing_told_is_not_the_same_as_nothing() -> None:
    """A client may still try."""
    assert features(tools=None, vision="yes") is None
    assert features(tools=False) == frozenset()


def test_a_list_tells_by_what_it_holds() -> None:
    """In the engine's own words; no list tells nothing."""
    assert listed(["tool_use", 7], tools="tool_use", vision="image") == {"tools": True, "vision": False}
    assert listed("tool_use", tools="tool_use") == {}
