"""What the demo shows: plain lines, or a live view on a terminal; knows no network."""

import json
import shlex
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from provider_agent.cli.demo_chat import Measured, Said, completion_body
from provider_agent.cli.demo_jobs import Finished
from provider_agent.cli.output import named

Facts = Mapping[str, Any]


class View(Protocol):
    """Told in this order: parts, question, pieces, answer, next steps; jobs at any time."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def part(self, name: str, facts: Facts) -> None:
        """A part is ready: `engine`, `coordinator`, `agent`."""
        ...

    def asked(self, prompt: str, model: str) -> None: ...
    def said(self, piece: Said, measured: Measured, /) -> None: ...
    def answered(self, measured: Measured) -> None: ...
    def next_steps(self, url: str, model: str) -> None: ...
    def counts(self, running: int, served: int) -> None:
        """How many jobs there are, the demo's own among them."""
        ...

    def job_ended(self, job: Finished) -> None:
        """A job of somebody else's ended."""
        ...


class PlainView:
    """One line for each thing; for pipes, files and CI."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.flush()

    def part(self, name: str, facts: Facts) -> None:
        what, note = part_text(name, facts)
        self._line(f"{name + ':':<13}{what}{f' ({note})' if note else ''}")

    def asked(self, prompt: str, model: str) -> None:
        self._line(f"\nasking {model}: {prompt}\n")

    def said(self, piece: Said, _measured: Measured, /) -> None:
        self._out.write(piece.text)
        self._out.flush()

    def answered(self, measured: Measured) -> None:
        self._line(f"\n\n{speed_text(measured)}")

    def next_steps(self, url: str, model: str) -> None:
        self._line(f"\nTry it, while this keeps running:\n\n{curl_lines(url, model)}\n")
        self._line(f"{python_lines(url, model)}\n\nCtrl-C stops it.")

    def counts(self, running: int, served: int) -> None:
        """Nothing: every job has its line when it ends."""

    def job_ended(self, job: Finished) -> None:
        self._line(f"job {job.job_id}: {job_text(job)}")

    def _line(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()


def part_text(name: str, facts: Facts) -> tuple[str, str]:
    """What a part is, and a remark."""
    match name:
        case "engine" if facts["kind"] == "simulator":
            searched = facts["searched"]
            return facts["model"], "simulated: no engine answers on this machine" if searched else "simulated"
        case "engine":
            return facts["model"], f"{facts['kind']} at {facts['url']}"
        case "coordinator":
            return facts["url"], "no keys, this machine only"
        case _:
            return "connected", f"offers {named(facts['models'], 3)}"


def speed_text(measured: Measured) -> str:
    speed = "" if measured.tokens_per_s is None else f", {measured.tokens_per_s:.1f} tokens/s"
    return f"{measured.tokens} tokens, first after {measured.first_token_s * 1000:.0f} ms{speed}"


def job_text(job: Finished) -> str:
    """One line about a job of somebody else's."""
    if job.code is not None:
        return f"{job.model} ended as {job.code} after {job.duration_s:.1f} s"
    parts = [job.model]
    if job.tokens:
        parts.append(f"{job.tokens} tokens")
    if job.first_byte_s is not None:
        parts.append(f"first byte after {job.first_byte_s * 1000:.0f} ms")
    if job.tokens_per_s is not None:
        parts.append(f"{job.tokens_per_s:.1f} tokens/s")
    return ", ".join(parts)


def curl_lines(url: str, model: str) -> str:
    body = json.dumps({"stream": True, **completion_body(model, "Hello!")}, separators=(",", ":"))
    body = body.replace(
        ',"messages"', ',\n      "messages"', 1
    )  # a line that a terminal breaks is hard to copy
    return f"curl -N {url}/v1/chat/completions \\\n  -d {shlex.quote(body)}"


def python_lines(url: str, model: str) -> str:
    return f"""\
from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="any")
messages = [{{"role": "user", "content": "Hello!"}}]
chat = client.chat.completions.create(
    model={json.dumps(model)}, messages=messages, stream=True
)
for event in chat:
    print(event.choices[0].delta.content or "", end="", flush=True)"""
