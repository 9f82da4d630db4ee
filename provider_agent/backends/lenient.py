"""JSON as engines now and then write it, which a strict reader refuses as a whole; knows no member of it.

A strict reader comes first wherever this is used: only what it refused is read here.
"""

import json
from typing import Any, NoReturn


def loads(data: bytes) -> Any:
    """What can be made of it: control characters, `NaN`, lone surrogates and a byte order mark pass.

    Bytes that are no UTF-8 become lone surrogates, too: so nothing that is made of them passes for a name.

    Raises:
        ValueError: it is no JSON even so, or nested too deeply to be read.
    """
    try:
        return json.loads(data.decode("utf-8-sig", "surrogateescape"), strict=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def is_json(data: bytes) -> bool:
    """By the letter of RFC 8259: in whose grammar half a surrogate pair is a character like any other."""
    try:
        json.loads(data.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
