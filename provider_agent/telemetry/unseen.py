"""Lets a library not find others that it would load although it can do without; knows none of them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unseen(*names: str) -> Iterator[None]:
    """Within the block, importing these fails, as if they were not installed; what is loaded stays."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment] # the documented way to make an import fail
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
