"""What went wrong in the systems before this one, and that a test of ours names each of it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = sorted(Path(__file__).parent.rglob("test_*.py"))

NOTES = {
    1: "a reader that waits for room which only it can make",
    2: "a cancel that meets the end of its job, and frees the slot twice",
    3: "a job that is over before it is registered, and stays for ever",
    4: "one job id that runs twice",
    5: "a cancel without an outcome, and chunks that leave after it",
    6: "a slot that is free before the engine's connection is closed",
    7: "a crash in a job that costs its outcome and its slot",
    8: "an outcome that is lost with the connection",
    9: "a passing reason told where a permanent one holds",
    10: "running jobs that a reconnect forgets",
    11: "a slow client that fails its job, or starves others",
    12: "a writer that stops the reading of cancels",
    13: "bytes counted as tokens",
    14: "unknown usage told as zero, known usage dropped",
    16: "a malformed job that is never answered",
    17: "a limit of 0 that becomes 1, one that wraps, and none for a hung engine",
    18: "a job id that comes back re-formatted",
    19: "an oversized job that ends the session",
    22: "a cancelled job that counts as a success",
    23: "another backend than the one that was named",
    24: "a model that runs because the request asks for it",
    25: "a second engine that is idle while the first is dead",
    26: "engines looked for once; one hiccup that empties the catalog",
    27: "engines looked for one by one, inside the handshake",
    28: "an error, a cut or a page of HTML taken for a whole answer",
    29: "usage not asked for, or shown to whoever did not ask",
    30: "every status of an engine told as one error",
    31: "an error message that tells an address, a key or the prompt",
    32: "a body without a line end that fills memory; characters cut in two",
    33: "addresses that are not normalised; a key that is ignored",
    34: "a stream that comes in one piece at the end",
    35: "parameters lost on the way",
    36: "chunks of one answer that overtake each other, and a connection for each",
    37: "a dial or a handshake without a limit",
    38: "a half-open connection that nobody notices",
    39: "a login loop, and an outage of which nothing is logged",
    40: "a fleet that comes back in one moment",
    42: "a signature that can be relayed",
    43: "a key file written in place, or open to others; a state file that stops every start",
    44: "a signal that drops the running jobs",
    47: "a resume that loses or kills what it should save",
    50: "a typo that passes in silence",
    67: "an agent that does not come back by itself, or takes a clock for a heartbeat",
    68: "a deploy that drops running answers",
    70: "an engine that works on for a client who has left",
    79: "an agent that gets no jobs, and nobody says why",
    80: "bursts, stalled readers and frozen peers that cost an answer",
}
"""By the numbers that docstrings call field notes: a defect that ours does not have."""


def named_in(docstring: str) -> Iterator[int]:
    """The numbers in `field note 7` or `Field notes 3, 22 and 31`."""
    for numbers in re.findall(r"field notes? (\d+(?:(?:, | and )\d+)*)", docstring, re.IGNORECASE):
        yield from map(int, re.findall(r"\d+", numbers))


def docstrings() -> Iterator[str]:
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield ast.get_docstring(node) or ""


@pytest.fixture(scope="module")
def named() -> set[int]:
    return {number for docstring in docstrings() for number in named_in(docstring)}


@pytest.mark.parametrize("note", NOTES, ids=str)
def test_a_test_shows_that_ours_has_not_this_defect(note: int, named: set[int]) -> None:
    """Whoever takes the last such test away says so here."""
    assert note in named, f"no test's docstring says `field note {note}`: {NOTES[note]}"


def test_notes_are_found_in_every_spelling() -> None:
    """One, several, at the start of a sentence or in brackets."""
    assert list(named_in("Field note 7: x. More (field notes 1, 12); field notes 28 and 31.")) == [
        7,
        1,
        12,
        28,
        31,
    ]
