"""A scanner fed by hand, in any pieces."""

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import strategies as st

from provider_agent.backends.base import BackendError, Usage
from provider_agent.backends.stream import Scanner

BORDERS = st.lists(st.integers(0, 10_000), max_size=12)
"""Where to split; see `split`."""


def read(scanner: Scanner, pieces: Iterable[bytes]) -> tuple[bytes, Usage, str]:
    """What is relayed, counted and judged, as the shell would see it (but fed beyond the end)."""
    relayed = b"".join([scanner.feed(piece) for piece in pieces])
    try:
        relayed += scanner.finish()
    except BackendError as error:
        return relayed, scanner.usage, f"{type(error).__name__}: {error}"
    return relayed, scanner.usage, "whole"


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def split(body: bytes, borders: list[int]) -> list[bytes]:
    places = sorted({0, len(body), *(border % (len(body) + 1) for border in borders)})
    return [body[start:end] for start, end in pairwise(places)]
