"""Readable text that depends only on its seed, and its tokens; knows no request and no engine."""

import hashlib
import json
import random
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

_TOKEN = re.compile(r"\s*(?:\w+(?:['’-]\w+)*|[^\w\s])|\s+")  # noqa: RUF001 - a curly apostrophe is meant

_OPENINGS = (
    "In the morning", "By the end of the day", "Along the coast", "When the rain stops", "At first light",
    "Every few years", "On quiet evenings", "Long before noon", "As the tide turns", "After the harvest",
)  # fmt: skip
_SUBJECTS = (
    "a small boat", "the night train", "an old lighthouse", "the river", "a patient gardener", "the baker",
    "a flock of cranes", "the mountain road", "the clockmaker's daughter", "a letter without a name",
)  # fmt: skip
_VERBS = (
    "follows", "remembers", "carries", "finds", "leaves behind", "keeps", "returns to", "listens to",
    "measures", "shares",
)  # fmt: skip
_OBJECTS = (
    "the light on the water", "the smell of fresh bread", "the shortest way home", "a handful of seeds",
    "the sound of the bells", "everything the storm forgot", "the slow turning of the stars",
    "a map drawn by hand", "the first snow", "what the others overlook",
)  # fmt: skip
_ENDINGS = (
    ", and nobody hurries it", " until the lamps are lit", ", one step at a time", " without a word",
    ", as it always has", " for those who wait", ", and the town wakes up", "", "", "",
)  # fmt: skip

SHORTEST_ANSWER_SENTENCES = 3
LONGEST_ANSWER_SENTENCES = 9


def digest(*parts: str) -> str:
    """The seed that belongs to these texts: equal texts, equal seed."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def tokens_of(text: str) -> list[str]:
    """Words with the blanks before them, and single signs; joined they are the text again."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    return len(tokens_of(text))


def answer(seed: str) -> list[str]:
    """The tokens of an answer of a few sentences."""
    choice = random.Random(seed)  # noqa: S311 - the same text again is the point
    length = choice.randint(SHORTEST_ANSWER_SENTENCES, LONGEST_ANSWER_SENTENCES)
    sentences = [_sentence(choice) for _ in range(length)]
    return tokens_of(" ".join(sentences))


def endless_answer(seed: str, count: int) -> list[str]:
    """Exactly `count` tokens: the same beginning as `answer(seed)`, and then more sentences."""
    return list(islice(_endless(seed), count))


def sentence(seed: str) -> str:
    """One sentence, for places that want a short text."""
    return _sentence(random.Random(seed))  # noqa: S311


def vector(seed: str, dimensions: int) -> list[float]:
    """A direction in space that belongs to the seed, of length 1."""
    choice = random.Random(seed)  # noqa: S311
    raw = [choice.gauss(0.0, 1.0) for _ in range(dimensions)]
    length = sum(x * x for x in raw) ** 0.5
    return [x / length for x in raw]


@lru_cache(maxsize=4096)
def quoted(token: str) -> bytes:
    """The token as a JSON string. The vocabulary is small, so nearly every call is a look-up."""
    return json.dumps(token).encode()


def _endless(seed: str) -> Iterator[str]:
    choice = random.Random(seed)  # noqa: S311
    choice.randint(SHORTEST_ANSWER_SENTENCES, LONGEST_ANSWER_SENTENCES)  # the draw that `answer` makes
    yield from _tokens(_sentence(choice))
    while True:
        yield from _tokens(" " + _sentence(choice))


@lru_cache(maxsize=1024)
def _tokens(text: str) -> tuple[str, ...]:
    return tuple(tokens_of(text))


def _sentence(choice: random.Random) -> str:
    pick = choice.choice
    return f"{pick(_OPENINGS)} {pick(_SUBJECTS)} {pick(_VERBS)} {pick(_OBJECTS)}{pick(_ENDINGS)}."
