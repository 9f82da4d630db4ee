"""What models can do beside text, as several tell it of one name; knows no engine and no agent."""

from collections.abc import Collection, Iterable


def in_common(told: Iterable[Collection[str] | None]) -> tuple[str, ...] | None:
    """What all of these have that tell, sorted: whoever gets the job can do it. None when none tells."""
    said = [frozenset(features) for features in told if features is not None]
    return tuple(sorted(frozenset.intersection(*said))) if said else None
