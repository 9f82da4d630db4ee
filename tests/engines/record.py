"""Writes down what a real engine answers, for the contract tests; knows no engine family of its own.

    python -m tests.engines.record URL NAME [--model MODEL] [--only PATH …] [--key KEY]

asks the engine at URL all that our adapters ask of it, then each endpoint of its model once as a stream and
once not, a tool call, and what it must refuse, and writes `tests/fakes/recorded/NAME.json`. NAME is the
family and the version, such as `vllm-0.32.0`, or `llamacpp-11434-router` for a variant. By hand only: look at
what it wrote, and say in `tests/contracts/test_recorded_engines.py` what is to be made of it.

What is left out: descriptions of an API but for its title and paths, all but the first numbers of a vector,
addresses, and the folders of paths of this machine.
"""

import argparse
import asyncio
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from provider_agent.backends.address import normalise
from provider_agent.backends.base import BackendError, BackendModel, BackendSettings
from provider_agent.backends.families import identify
from provider_agent.backends.http import EngineHttp, Page
from provider_agent.backends.listing import QUESTIONS
from provider_agent.backends.request import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RERANK, RESPONSES
from tests.fakes.recordings import FOLDER

_TIMEOUT_S: Final = 120.0
_LONGEST_TEXT: Final = 200
_KEPT_HEADERS: Final = ("content-type", "server", "transfer-encoding", "connection", "retry-after", "allow")
_VECTOR: Final = re.compile(r"\[([^][{}\",]+,[^][{}\",]+,[^][{}\",]+),[^][{}\"]{80,}\]")
_PATH: Final = re.compile(r"(?<![\w/.<])/(?:[\w.@+-]+/)+[\w.@+-]*")

_TALK: Final = [{"role": "user", "content": "Hi"}]
_SCHEMA: Final = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_TOOL: Final = {"type": "function", "function": {"name": "weather", "parameters": _SCHEMA}}
_COUNTED: Final = {"stream": True, "stream_options": {"include_usage": True}}

_ORDINARY: Final[Mapping[str, Mapping[str, Any]]] = {
    CHAT: {"messages": _TALK, "max_tokens": 4},
    COMPLETIONS: {"prompt": "Hi", "max_tokens": 4},
    RESPONSES: {"input": "Hi", "max_output_tokens": 16},
    MESSAGES: {"messages": _TALK, "max_tokens": 4},
    EMBEDDINGS: {"input": "Hi"},
    RERANK: {"query": "Hi", "documents": ["Hi", "there"]},
}
_STREAMED: Final[Mapping[str, dict[str, Any]]] = {
    CHAT: _COUNTED,
    COMPLETIONS: _COUNTED,
    RESPONSES: {"stream": True},
    MESSAGES: {"stream": True},
}


@dataclass(frozen=True)
class Question:
    """One request of inference; `body` is a text where it is no JSON."""

    name: str
    path: str
    body: dict[str, Any] | str


@dataclass
class Recorder(EngineHttp):
    """Keeps each page that the adapters ask for."""

    pages: dict[str, Page | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    async def ask(self, base_url: str, path: str, **options: Any) -> Page:
        self.pages[path] = None
        page = self.pages[path] = await super().ask(base_url, path, **options)
        return page


async def pages_of(url: str, key: str | None) -> tuple[str, tuple[BackendModel, ...], dict[str, Page | None]]:
    """Which family it is, its models, and all the pages that say so."""
    async with Recorder() as http:
        for path in QUESTIONS.values():
            try:
                await http.ask(url, path, api_key=key, timeout_s=_TIMEOUT_S)
            except BackendError as error:
                print(f"{path}: {error}")
        family = await identify(http, url, api_key=key, timeout_s=_TIMEOUT_S)
        if family is None:
            raise SystemExit(f"there is no engine that we know at {url}")
        settings = BackendSettings(family.kind, api_key=key)
        return family.kind, await family(http, settings, url=url, name="x").list_models(), http.pages


def questions(model: BackendModel, only: Collection[str]) -> Iterator[Question]:
    """All that is asked of a model: what it serves, and on its first endpoint what it must refuse."""
    served = [path for path in _ORDINARY if path in model.endpoints and (not only or path in only)]
    for path in served:
        body: dict[str, Any] = {"model": model.model_id, **_ORDINARY[path]}
        name = path.rpartition("/")[2] if path != CHAT else "chat"
        if path in _STREAMED:
            yield Question(f"{name} streamed", path, body | _STREAMED[path])
            body["stream"] = False  # as the agent always says it: some stream unless they are told not to
        yield Question(name, path, body)
        if path == CHAT:
            yield from _chats(body)
    yield from _refused(model, served[0])


def _chats(body: dict[str, Any]) -> Iterator[Question]:
    called = {"type": "function", "function": {"name": "weather"}}
    tools = {**body, "tools": [_TOOL], "tool_choice": called, "max_tokens": 40, "temperature": 0}
    yield Question("tools", CHAT, tools)
    yield Question("tools streamed", CHAT, tools | _COUNTED)
    yield Question("two choices streamed", CHAT, {**body, "n": 2, **_COUNTED})
    no_schema = {"name": "x", "schema": {"type": "nonsense", "properties": 7}}
    answer = {"type": "json_schema", "json_schema": no_schema}
    yield Question("bad schema streamed", CHAT, {**body, "response_format": answer, **_COUNTED})


def _refused(model: BackendModel, path: str) -> Iterator[Question]:
    body: dict[str, Any] = {"model": model.model_id, **_ORDINARY[path]}
    member = next(name for name in ("messages", "prompt", "input", "query") if name in body)
    more = _STREAMED.get(path, {})
    yield Question("wrong model", path, body | {"model": "nobody"})
    yield Question("wrong model streamed", path, {**body, "model": "nobody", **more})
    if model.context_window is not None:  # without a limit it would be at work for minutes
        long = "Hi there. " * model.context_window
        too_long = [{"role": "user", "content": long}] if member == "messages" else long
        yield Question("too long", path, body | {member: too_long})
        yield Question("too long streamed", path, body | {member: too_long} | more)
    yield Question("bad value", path, body | {member: 7})
    yield Question("bad parameter", path, body | {"temperature": "hot"})
    yield Question("no JSON", path, '{"model": ')
    yield Question("nothing", path, {})
    yield Question("no such endpoint", "/v1/nothing", body)


def asked(client: httpx.Client, question: Question) -> dict[str, Any]:
    """The question and its answer, as it is written down."""
    body = question.body
    content = body if isinstance(body, str) else json.dumps(body)
    answer = client.post(question.path, content=content, headers={"content-type": "application/json"})
    print(f"{question.name}: {answer.status_code}, {len(answer.content)} bytes")
    return {
        "name": question.name,
        "path": question.path,
        "request": _shortened(body),
        "status": answer.status_code,
        "headers": _kept(answer.headers),
        "body": _VECTOR.sub(r"[\1]", answer.content.decode()).split("\n"),
    }


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _KEPT_HEADERS if name in headers}


def _written(path: str, page: Page) -> dict[str, Any]:
    said = page.value
    if path == QUESTIONS["api"] and isinstance(said, dict) and page.status == httpx.codes.OK:
        said = {"info": {"title": said["info"]["title"]}, "paths": {each: {} for each in said["paths"]}}
    body = page.body.decode(errors="replace")[:_LONGEST_TEXT] if said is None else said
    return {"status": page.status, "headers": _kept(page.headers), "body": body}


def _shortened(value: Any) -> Any:
    """Long texts in a request say nothing but that they are long."""
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return f"{value[:20]}… ({len(value)} characters)"
    if isinstance(value, dict):
        return {name: _shortened(each) for name, each in value.items()}
    return [_shortened(each) for each in value] if isinstance(value, list) else value


def without_place(written: str, url: str) -> str:
    """Without what is true of this machine only: its address, and folders that exist here."""

    def of_path(match: re.Match[str]) -> str:
        return f"/models/{Path(match[0]).name}" if Path(match[0]).exists() else match[0]

    place = urlsplit(url)
    text = _PATH.sub(of_path, written.replace(place.netloc, "127.0.0.1:8000"))
    return re.sub(rf'(--port", "){place.port}', r"\g<1>8000", text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.engines.record")
    parser.add_argument("url")
    parser.add_argument("name")
    parser.add_argument("--model", help="which of several models to ask; the first one without it")
    parser.add_argument("--only", nargs="*", default=(), help="of its endpoints, those to ask: of a variant")
    parser.add_argument("--key", help="the engine's key, if it wants one; it is not written down")
    given = parser.parse_args()
    url = normalise(given.url)
    kind, models, pages = asyncio.run(pages_of(url, given.key))
    model = next((each for each in models if each.model_id == given.model), models[0])
    headers = {"authorization": f"Bearer {given.key}"} if given.key else {}
    each_anew = httpx.Limits(max_keepalive_connections=0)  # llama.cpp drops used ones
    with httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S, limits=each_anew) as client:
        answers = [asked(client, question) for question in questions(model, given.only)]
    recording = {
        "kind": kind,
        "model": model.model_id,
        "pages": {path: _written(path, page) for path, page in sorted(pages.items()) if page is not None},
        "answers": answers,
    }
    written = without_place(json.dumps(recording, indent=1, ensure_ascii=False), url)
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{given.name}.json"
    path.write_text(written + "\n")
    print(f"{path}: {len(written)} bytes")


if __name__ == "__main__":
    main()
