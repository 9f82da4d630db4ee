"""Lets a library not find another one that it would load although it can do without; knows neither."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unseen(name: str) -> Iterator[None]:
    """Within the block, importing `name` fails as if it were not installed, unless it is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment] # the documented way to make an import fail
    try:
        yield
    finally:
        del sys.modules[name]
