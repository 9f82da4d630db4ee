"""A short name for what is really served, made of what an engine tells; knows no engine."""

import hashlib
import json


def fingerprint(**told: object) -> str | None:
    """Equal for equal facts; None if nothing was told.

    Only texts and numbers count. They are hashed, so that no path and no template leaves this machine.
    """
    facts = {name: value for name, value in told.items() if isinstance(value, str | int | float) and value}
    if not facts:
        return None
    return "sha256:" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
