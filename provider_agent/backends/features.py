"""What a model can do beside text, in the words of the wire; knows no engine."""


def features(**told: object) -> frozenset[str] | None:
    """Of `tools`, `vision`, `audio`, `thinking` those that are true; None when nothing is told of any."""
    said = {name: value for name, value in told.items() if isinstance(value, bool)}
    return frozenset(name for name, value in said.items() if value) if said else None


def listed(names: object, **words: str) -> dict[str, bool]:
    """Which of these an engine's list holds, by its own words for them; nothing where there is no list."""
    if not isinstance(names, list):
        return {}
    return {feature: word in names for feature, word in words.items()}
