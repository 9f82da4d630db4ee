"""The kinds of fields that frames are made of; knows no frame."""

from typing import Annotated

import msgspec
from msgspec import Meta

LARGEST_COUNT = 2**53
"""The largest integer that every JSON reader keeps exact."""

LONGEST_NAME = 512
"""The longest name of a model, in characters."""

JobId = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[ -~]+\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]
Count = Annotated[int, Meta(ge=0, le=LARGEST_COUNT)]
Milliseconds = Annotated[int, Meta(ge=1, le=LARGEST_COUNT)]
U32 = Annotated[int, Meta(ge=0, lt=2**32)]
ChunkNumber = Annotated[int, Meta(ge=-1, le=LARGEST_COUNT)]
"""Of the last chunk that is there; -1 for none."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a frame; its fields are always written, null included."""
