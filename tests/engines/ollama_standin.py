"""Ollama's wire format in front of real llama.cpp servers, as Ollama itself has it; a small part of it.

Run as a program: `python -m tests.engines.ollama_standin PORT small=http://127.0.0.1:8080 …`; a model that
is called `…-embed` only embeds. Written after the documentation and source of Ollama (August 2026).
"""

import hashlib
import json
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web

CONTEXT = 2048
_OPTIONS = {"num_predict": "max_tokens", "stop": "stop", "seed": "seed", "temperature": "temperature"}

_ENGINES = web.AppKey("engines", dict[str, str])
_LOADED = web.AppKey("loaded", set[str])
_CLIENT = web.AppKey("client", aiohttp.ClientSession)


class Refused(Exception):
    """A request that gets a status and words."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


# --- models ------------------------------------------------------------------------------


def full_name(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def capabilities_of(name: str) -> list[str]:
    return ["embedding"] if "-embed" in name else ["completion", "tools"]


def listed(name: str) -> dict[str, Any]:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return {"name": name, "model": name, "size": 3_000_000, "digest": digest, "details": details()}


def details() -> dict[str, Any]:
    empty = {"parent_model": "", "families": ["llama"]}
    return empty | {
        "format": "gguf",
        "family": "llama",
        "parameter_size": "1M",
        "quantization_level": "F32",
    }


async def tags(request: web.Request) -> web.Response:
    models = [listed(name) | {"modified_at": now()} for name in request.app[_ENGINES]]
    return web.json_response({"models": models})


async def running(request: web.Request) -> web.Response:
    expires = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    memory = {"expires_at": expires, "size_vram": 0, "context_length": CONTEXT}
    loaded = request.app[_LOADED]
    return web.json_response({"models": [listed(name) | memory for name in sorted(loaded)]})


async def show(request: web.Request) -> web.Response:
    name, _ = engine_of(request, await body_of(request))
    info = {"general.architecture": "llama", "llama.context_length": CONTEXT}
    told = {"details": details(), "model_info": info, "capabilities": capabilities_of(name)}
    return web.json_response(told | {"modified_at": now()})


async def version(_request: web.Request) -> web.Response:
    return web.json_response({"version": "0.32.0"})


# --- requests ----------------------------------------------------------------------------


async def body_of(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError as error:
        raise Refused(400, str(error)) from None
    if not isinstance(body, dict):
        raise Refused(400, "json: cannot unmarshal into Go value")
    return body


def engine_of(request: web.Request, body: Mapping[str, Any]) -> tuple[str, str]:
    """The model's full name and the URL of its server; it counts as loaded from then on."""
    said = body.get("model") or ""
    if not said:
        raise Refused(400, "model is required")
    name = full_name(said)
    if name not in request.app[_ENGINES]:
        raise Refused(404, f"model '{said}' not found")
    return name, request.app[_ENGINES][name]


def asked_of(body: Mapping[str, Any], messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The same as a request of OpenAI's kind."""
    given = body.get("options") or {}
    asked = {ours: given[theirs] for theirs, ours in _OPTIONS.items() if theirs in given}
    asked |= {"messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    if body.get("tools"):
        asked["tools"] = body["tools"]
    if body.get("format") == "json":
        asked["response_format"] = {"type": "json_object"}
    elif body.get("format"):
        asked["response_format"] = {"type": "json_schema", "json_schema": {"schema": body["format"]}}
    return asked


def with_text_arguments(message: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a tool call are an object to Ollama, and a text to OpenAI."""
    calls = [
        {
            "id": f"call_{at}",
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": json.dumps(call["function"]["arguments"]),
            },
        }
        for at, call in enumerate(message.get("tool_calls") or ())
    ]
    return message | ({"tool_calls": calls} if calls else {})


async def chat(request: web.Request) -> web.StreamResponse:
    body = await body_of(request)
    messages = [with_text_arguments(message) for message in body.get("messages") or ()]
    return await answer(request, body, messages, "message")


async def generate(request: web.Request) -> web.StreamResponse:
    body = await body_of(request)
    system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    prompt = [{"role": "user", "content": body["prompt"]}] if body.get("prompt") else []
    return await answer(request, body, system + prompt if prompt else [], "response")


async def embed(request: web.Request) -> web.Response:
    body = await body_of(request)
    name, url = engine_of(request, body)
    asked = {"model": "any", "input": body.get("input")}
    async with request.app[_CLIENT].post(f"{url}/v1/embeddings", json=asked) as reply:
        told = await reply.json()
        if not reply.ok:
            raise Refused(reply.status, told["error"]["message"])
    request.app[_LOADED].add(name)
    vectors = [each["embedding"] for each in told["data"]]
    count = told["usage"]["prompt_tokens"]
    return web.json_response({"model": body["model"], "embeddings": vectors, "prompt_eval_count": count})


# --- answers -----------------------------------------------------------------------------


async def answer(
    request: web.Request, body: dict[str, Any], messages: list[dict[str, Any]], member: str
) -> web.StreamResponse:
    """In lines, or in one object; a failure after the first line is a line."""
    name, url = engine_of(request, body)
    if "embedding" in capabilities_of(name):
        raise Refused(400, f'"{body["model"]}" does not support {request.path.rpartition("/")[2]}')
    if not messages:
        request.app[_LOADED].add(name)
        return web.json_response(piece(body, member, {}) | {"done": True, "done_reason": "load"})
    async with request.app[_CLIENT].post(
        f"{url}/v1/chat/completions", json=asked_of(body, messages)
    ) as reply:
        if not reply.ok:
            raise Refused(reply.status, (await reply.json())["error"]["message"])
        request.app[_LOADED].add(name)
        lines = pieces(body, member, reply)
        if body.get("stream") is False:
            return web.json_response(whole([each async for each in lines], member))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            async for each in lines:
                await response.write(json.dumps(each, separators=(",", ":")).encode() + b"\n")
        except (aiohttp.ClientError, Refused):
            await response.write(
                b'{"error":"an error was encountered while running the model: unexpected EOF"}\n'
            )
        return response


def piece(body: Mapping[str, Any], member: str, delta: Mapping[str, Any]) -> dict[str, Any]:
    text = delta.get("content") or ""
    said: Any = {"role": "assistant", "content": text} if member == "message" else text
    return {"model": body["model"], "created_at": now(), member: said, "done": False}


class ToolCalls:
    """Calls as they come in parts from a server of OpenAI's kind, told whole."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, str]] = {}

    def take(self, parts: Iterable[Mapping[str, Any]]) -> None:
        for part in parts:
            call = self._calls.setdefault(part["index"], {"name": "", "arguments": ""})
            for key in call:
                call[key] += part["function"].get(key) or ""

    def told(self) -> list[dict[str, Any]]:
        return [
            {"function": {"index": at, "name": call["name"], "arguments": json.loads(call["arguments"])}}
            for at, call in self._calls.items()
        ]


async def pieces(
    body: Mapping[str, Any], member: str, reply: aiohttp.ClientResponse
) -> AsyncIterator[dict[str, Any]]:
    """One object for each piece of an answer; tool calls come whole, behind the text."""
    began_ns = time.monotonic_ns()
    usage: dict[str, int] = {}
    reason = ""
    calls = ToolCalls()
    async for line in reply.content:
        data = line.strip().removeprefix(b"data: ")
        if not data.startswith(b"{"):
            continue
        event = json.loads(data)
        usage = event.get("usage") or usage
        for choice in event.get("choices") or ():
            reason = choice.get("finish_reason") or reason
            delta = choice.get("delta") or {}
            calls.take(delta.get("tool_calls") or ())
            if delta.get("content"):
                yield piece(body, member, delta)
    if not reason:
        raise Refused(500, "unexpected EOF")
    if calls.told():
        told = piece(body, member, {})
        yield told | {member: told[member] | {"tool_calls": calls.told()}}
    passed_ns = time.monotonic_ns() - began_ns
    counts = {
        "prompt_eval_count": usage.get("prompt_tokens", 0),
        "eval_count": usage.get("completion_tokens", 0),
    }
    times = {"total_duration": passed_ns, "load_duration": 0, "eval_duration": passed_ns}
    ended = {"done": True, "done_reason": "length" if reason == "length" else "stop"}
    yield piece(body, member, {}) | ended | times | counts


def whole(told: list[dict[str, Any]], member: str) -> dict[str, Any]:
    """The last object, with the text and the calls of all."""
    if member == "response":
        return told[-1] | {member: "".join(each[member] for each in told)}
    message = {"role": "assistant", "content": "".join(each[member]["content"] for each in told)}
    calls = [call for each in told for call in each[member].get("tool_calls", ())]
    return told[-1] | {member: message | ({"tool_calls": calls} if calls else {})}


async def pass_on(request: web.Request) -> web.StreamResponse:
    """OpenAI's and Anthropic's endpoints are those of the server itself."""
    body = await body_of(request)
    _, url = engine_of(request, body)
    async with request.app[_CLIENT].post(f"{url}{request.path}", json=body) as reply:
        response = web.StreamResponse(
            status=reply.status, headers={"Content-Type": reply.headers["Content-Type"]}
        )
        await response.prepare(request)
        async for data in reply.content.iter_any():
            await response.write(data)
        return response


async def models(request: web.Request) -> web.Response:
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "library"} for name in request.app[_ENGINES]
    ]
    return web.json_response({"object": "list", "data": data})


@web.middleware
async def refusals(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        told: web.StreamResponse = await handler(request)
    except Refused as refused:
        return web.json_response({"error": str(refused)}, status=refused.status)
    return told


async def client_of(app: web.Application) -> AsyncIterator[None]:
    fresh = aiohttp.TCPConnector(force_close=True)  # llama-server drops connections that it promised to keep
    patient = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=fresh, timeout=patient) as client:
        app[_CLIENT] = client
        yield


def make_app(engines: Mapping[str, str]) -> web.Application:
    """For models by name, each with the URL of its server."""
    app = web.Application(middlewares=[refusals])
    app[_ENGINES] = {full_name(name): url for name, url in engines.items()}
    app[_LOADED] = set()
    app.cleanup_ctx.append(client_of)
    app.add_routes(
        [web.get("/api/tags", tags), web.get("/api/ps", running), web.get("/api/version", version)]
    )
    app.add_routes([web.post("/api/show", show), web.post("/api/chat", chat)])
    app.add_routes([web.post("/api/generate", generate), web.post("/api/embed", embed)])
    app.add_routes([web.get("/v1/models", models), web.post("/v1/{path:.+}", pass_on)])
    return app


if __name__ == "__main__":
    served = dict(each.split("=", 1) for each in sys.argv[2:])
    web.run_app(make_app(served), host="127.0.0.1", port=int(sys.argv[1]), handler_cancellation=True)
