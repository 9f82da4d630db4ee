"""Writes a tiny Llama model that real llama.cpp loads; needs nothing but the standard library.

Nothing is trained. Every word is a vector of signs, and the output layer answers the word that was read
last with the words that may follow it in `STORY`. So a run at temperature 0 always says the same readable
sentences, while the engine does all of its real work: tokens, attention, sampling, grammars, streaming.

    python tests/engines/tiny_gguf.py tiny.gguf [--layers 2] [--width 256] [--context 8192]
"""

import argparse
import itertools
import math
import random
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

STORY = """
The engine reads a question and writes one word after another . Each word leaves as soon as it is ready .
An agent carries words toward the coordinator which hands them straight over . When nobody listens any more
then this engine stops at once . Nothing gets lost , nothing comes twice , nothing waits .
Here ends our answer .
"""

CONTROL = (
    "<unk>",
    "<s>",
    "</s>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|end|>",
    "<|pick|>",
)
MARKS = ("<tool_call>", "</tool_call>")
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
SPACE = "\u2581"  # how this family of tokenizers writes the space before a word

TEMPLATE = """\
{%- if tools -%}<|system|>Tools, called as <tool_call>{"name": ..., "arguments": ...}</tool_call>:
{%- for tool in tools %}{{ tool | tojson }}{% endfor %}<|end|>{%- endif -%}
{%- for message in messages -%}<|{{ message.role }}|>{{ message.content or '' }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
{#- #}</tool_call>
{%- endfor -%}<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>
{%- if tools and messages[-1].role == 'user' %}<|pick|>{% endif -%}
{%- endif -%}"""

U32, F32, TEXT, ARRAY, I32 = 4, 6, 8, 9, 5  # GGUF's numbers for the types of metadata
FLOAT32, FLOAT16 = 0, 1  # … and of tensors
ALIGNMENT = 32
KINDS = {"normal": 1, "unknown": 2, "control": 3, "user": 4, "byte": 6}

Tensor = tuple[str, tuple[int, ...], int, bytes]  # name, dimensions with the innermost first, type, data


def spelled(word: str) -> str:
    return word if word in ".," else SPACE + word


def vocabulary() -> dict[str, str]:
    """Token to kind, in the order of the ids: bytes make any text readable, prefixes lead to words."""
    words = {spelled(form) for word in STORY.split() for form in (word, word.lower())} | {"ok"}
    prefixes = {word[:length] for word in words for length in range(1, len(word) + 1)} - {SPACE}
    kinds = dict.fromkeys(CONTROL, "control") | dict.fromkeys(MARKS, "user") | dict.fromkeys(BYTES, "byte")
    return kinds | dict.fromkeys(sorted(prefixes), "normal") | {"<unk>": "unknown"}


def preferences() -> dict[tuple[str, str], float]:
    """How much the model wants to say the second word after the first, as logits."""
    said = [spelled(word) for word in STORY.split()]
    pairs = Counter(itertools.pairwise([*said, said[0]]))
    wish = {pair: 12 + math.log(count) for pair, count in pairs.items()}
    wish |= {("<|assistant|>", word): logit for (before, word), logit in wish.items() if before == "."}
    wish |= {(".", "<|end|>"): 13, ("<|pick|>", "<tool_call>"): 12, ("</tool_call>", "<|end|>"): 12}
    # Inside JSON the engine's grammar says what may come: prefer the shortest value, and no white space.
    quote, brace = "<0x22>", "<0x7D>"
    wish |= {(place, f"<0x{ord(blank):02X}>"): -6 for place in ("<|assistant|>", quote) for blank in " \t\n"}
    wish |= {(quote, "ok"): 12, ("ok", quote): 12}
    wish |= {("<|assistant|>", quote): 6, ("<|assistant|>", brace): 7, ("<|assistant|>", "</tool_call>"): 9}
    return wish


def signs(width: int, rng: random.Random) -> list[int]:
    return [1 if rng.getrandbits(1) else -1 for _ in range(width)]


def vectors(tokens: Iterable[str], meant: set[str], width: int, rng: random.Random) -> dict[str, list[int]]:
    """One vector of signs per token. What no rule starts from resembles the start of an answer."""
    start = signs(width, rng)
    result = {}
    for token in tokens:
        flipped = set(rng.sample(range(width), width // 10))
        near = [-sign if place in flipped else sign for place, sign in enumerate(start)]
        result[token] = signs(width, rng) if token in meant else near
    return result | {"<|assistant|>": start}


def output_rows(
    embedding: Mapping[str, Sequence[int]], wish: Mapping[tuple[str, str], float], width: int
) -> dict[str, list[float]]:
    """The output layer: a row's product with the vector of the word before is the logit of its own word."""
    rows = {token: [0.0] * width for token in embedding}
    for (before, word), logit in wish.items():
        rows[word] = [
            value + logit * sign / width for value, sign in zip(rows[word], embedding[before], strict=True)
        ]
    return rows


def half(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}e", *values)


def matrix(name: str, inner: int, outer: int, noise: bytes) -> Tensor:
    """Noise of an uneven period, repeated: all of the arithmetic and little of the meaning."""
    size = 2 * inner * outer
    return f"{name}.weight", (inner, outer), FLOAT16, (noise * (size // len(noise) + 1))[:size]


def ones(name: str, width: int) -> Tensor:
    return f"{name}.weight", (width,), FLOAT32, struct.pack(f"<{width}f", *[1.0] * width)


def layer(index: int, width: int, noise: bytes) -> Iterable[Tensor]:
    block = f"blk.{index}."
    yield ones(f"{block}attn_norm", width)
    yield ones(f"{block}ffn_norm", width)
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        yield matrix(block + part, width, width, noise)
    yield matrix(f"{block}ffn_gate", width, 2 * width, noise)
    yield matrix(f"{block}ffn_up", width, 2 * width, noise)
    yield matrix(f"{block}ffn_down", 2 * width, width, noise)


def tensors(tokens: Sequence[str], layers: int, width: int) -> Iterable[Tensor]:
    rng = random.Random(1)  # noqa: S311 - the same file every time is the point
    wish = preferences()
    embedding = vectors(tokens, {before for before, _ in wish}, width, rng)
    rows = output_rows(embedding, wish, width)
    shape = (width, len(tokens))
    yield "token_embd.weight", shape, FLOAT16, half(list(itertools.chain(*(embedding[t] for t in tokens))))
    yield "output.weight", shape, FLOAT16, half(list(itertools.chain(*(rows[t] for t in tokens))))
    yield ones("output_norm", width)
    spread = 0.45 / math.sqrt(width * layers)  # all layers together must not drown the word that was read
    noise = half([rng.gauss(0, spread) for _ in range(65521)])
    for index in range(layers):
        yield from layer(index, width, noise)


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(key: str, kind: int, value: float | str) -> bytes:
    packed = text(str(value)) if kind == TEXT else struct.pack("<f" if kind == F32 else "<I", value)
    return text(key) + struct.pack("<I", kind) + packed


def array(key: str, kind: int, values: Sequence[bytes]) -> bytes:
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(values)) + b"".join(values)


def metadata(vocab: Mapping[str, str], layers: int, width: int, context: int) -> list[bytes]:
    ids = {token: index for index, token in enumerate(vocab)}
    numbers = {
        "general.file_type": FLOAT16,
        "llama.context_length": context,
        "llama.embedding_length": width,
        "llama.block_count": layers,
        "llama.feed_forward_length": 2 * width,
        "llama.attention.head_count": width // 64,
        "llama.attention.head_count_kv": width // 64,
        "llama.rope.dimension_count": 64,
        "llama.vocab_size": len(vocab),
        "tokenizer.ggml.unknown_token_id": ids["<unk>"],
        "tokenizer.ggml.bos_token_id": ids["<s>"],
        "tokenizer.ggml.eos_token_id": ids["</s>"],
        "tokenizer.ggml.eot_token_id": ids["<|end|>"],
    }
    words = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "tokenizer.ggml.model": "llama",
        "tokenizer.chat_template": TEMPLATE,
    }
    return [
        *(entry(key, TEXT, value) for key, value in words.items()),
        *(entry(key, U32, value) for key, value in numbers.items()),
        entry("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        array("tokenizer.ggml.tokens", TEXT, [text(token) for token in vocab]),
        array("tokenizer.ggml.scores", F32, [struct.pack("<f", 0.0)] * len(vocab)),
        array("tokenizer.ggml.token_type", I32, [struct.pack("<i", KINDS[kind]) for kind in vocab.values()]),
    ]


def padding(size: int) -> bytes:
    return b"\0" * (-size % ALIGNMENT)


def write(path: Path, layers: int, width: int, context: int) -> None:
    vocab = vocabulary()
    facts, parts = metadata(vocab, layers, width, context), list(tensors(list(vocab), layers, width))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(parts), len(facts)) + b"".join(facts)
    offset = 0
    for name, shape, kind, data in parts:
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        offset += len(data) + len(padding(len(data)))
    unfinished = path.with_suffix(".part")  # a running server has the old file mapped: never write into it
    with unfinished.open("wb") as file:
        file.write(head + padding(len(head)))
        for *_, data in parts:
            file.write(data + padding(len(data)))
    unfinished.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=256, help="a multiple of 64")
    parser.add_argument("--context", type=int, default=8192)
    arguments = parser.parse_args()
    write(arguments.path, arguments.layers, arguments.width, arguments.context)


if __name__ == "__main__":
    main()
