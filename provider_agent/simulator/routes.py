"""From a dialect to the routes of its server: pages, requests, refusals; knows no family and no pace."""

import itertools
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web

from provider_agent.backends.request import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    OLLAMA_CHAT,
    OLLAMA_EMBED,
    OLLAMA_GENERATE,
    RERANK,
    RESPONSES,
)
from provider_agent.simulator import anthropic, ollama, openai, openai_tasks, responses
from provider_agent.simulator.dialects.base import Dialect, NoSuchModel, Page, View
from provider_agent.simulator.embeddings import ollama_embeddings, openai_embeddings
from provider_agent.simulator.engine import JSON, Engine
from provider_agent.simulator.forms import BodyForm, Form, to_json
from provider_agent.simulator.rerank import rerank
from provider_agent.simulator.slots import TooManyWait
from provider_agent.simulator.style import Error, Style, anthropic_error, text_error
from provider_agent.simulator.task import BadTask, PromptTooLong, Task

_CLIENT_IS_GONE = 499

Body = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What an answer bears beside its text."""

    answer_id: str
    created_s: int
    style: Style


_WRITTEN: Mapping[str, tuple[Callable[[Body], Task], Callable[[Task, _Stamp], Form]]] = {
    CHAT: (openai_tasks.read_chat, lambda t, s: openai.ChatForm(t, s.answer_id, s.created_s, s.style)),
    COMPLETIONS: (
        openai_tasks.read_completion,
        lambda t, s: openai.CompletionForm(t, s.answer_id, s.created_s, s.style),
    ),
    RESPONSES: (
        responses.read_response,
        lambda t, s: responses.ResponsesForm(t, s.answer_id, s.created_s, s.style),
    ),
    MESSAGES: (anthropic.read_messages, lambda t, s: anthropic.MessagesForm(t, s.answer_id)),
}
_COMPUTED: Mapping[str, Callable[[Body], Body]] = {
    EMBEDDINGS: openai_embeddings,
    RERANK: rerank,
    OLLAMA_EMBED: ollama_embeddings,
}
_OLLAMA: Mapping[str, tuple[Callable[[Body], Task], ollama.Endpoint]] = {
    OLLAMA_CHAT: (ollama.read_chat, "chat"),
    OLLAMA_GENERATE: (ollama.read_generate, "generate"),
}


class Routes:
    """The routes of one engine."""

    def __init__(self, dialect: Dialect, engine: Engine, view: View) -> None:
        self._dialect = dialect
        self._engine = engine
        self._view = view
        self._serial = itertools.count(1)

    def __iter__(self) -> Iterator[web.RouteDef]:
        dialect = self._dialect
        yield web.get("/health", self._health)
        for path, page in dialect.pages.items():
            yield web.get(self._place(path), self._page(page))
        for path, page in dialect.questions.items():
            yield web.post(self._place(path), self._guarded(path, self._question(page)))
        for path in dialect.endpoints:
            yield web.post(self._place(path), self._guarded(path, self._endpoint(path)))

    @web.middleware
    async def while_starting(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Until its model is loaded, such an engine has no other word."""
        if self._engine.is_starting:
            return _json(self._dialect.style.error(503, "Loading model"), 503)
        return await handler(request)

    async def name_server(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Each answer says whose it is, if the family does that."""
        if self._dialect.server is not None:
            response.headers["Server"] = self._dialect.server

    def _place(self, path: str) -> str:
        return self._dialect.folder + path if path.startswith("/v1/") else path

    # What it tells of itself

    async def _health(self, _request: web.Request) -> web.Response:
        slots = self._engine.slots
        counts = {"total": slots.total, "busy": slots.busy, "waiting": slots.waiting}
        return _json({"status": "ok", "slots": counts})

    def _page(self, page: Page) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            said = page(self._view, request.query)
            return web.Response(text=said) if isinstance(said, str) else _json(said)

        return self._guarded("", handle)

    def _question(self, page: Page) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return _json(page(self._view, await _read_body(request)))

        return handle

    # What it is for

    def _endpoint(self, path: str) -> Handler:
        if path in _WRITTEN:
            return self._writes(path)
        return self._writes_as_ollama(path) if path in _OLLAMA else self._computes(path)

    def _writes(self, path: str) -> Handler:
        read, make_form = _WRITTEN[path]

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await _read_body(request)
            model, task = self._model(body), read(body)
            return await self._engine.serve(request, model, task, make_form(task, self._stamp()))

        return handle

    def _stamp(self) -> _Stamp:
        created_s = int(self._view.now().timestamp())
        return _Stamp(f"{next(self._serial):08d}", created_s, self._dialect.style)

    def _writes_as_ollama(self, path: str) -> Handler:
        read, endpoint = _OLLAMA[path]

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await _read_body(request)
            model, task, keep_s = self._model(body), read(body), ollama.keep_s(body)
            form = ollama.OllamaForm(task, endpoint, self._view.now())
            if task.prompt:
                return await self._engine.serve(request, model, task, form, keep_s=keep_s)
            await self._load_or_unload(model, keep_s)
            return web.Response(body=form.nothing_asked(unload=keep_s == 0), headers={"Content-Type": JSON})

        return handle

    def _computes(self, path: str) -> Handler:
        compute, error = _COMPUTED[path], self._error(path)

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await _read_body(request)
            model, form = self._model(body), BodyForm(compute(body), error)
            keep_s = ollama.keep_s(body) if path == OLLAMA_EMBED else None
            return await self._engine.serve_body(request, model, form, keep_s=keep_s)

        return handle

    def _model(self, body: Body) -> str:
        """The name that the engine has for the model of a request. Raises BadTask."""
        said, view = body.get("model"), self._view
        name = self._dialect.name_of(said) if isinstance(said, str) else ""
        if name not in view.models and self._dialect.takes_any_model:
            return view.models[0]
        if not said or not isinstance(said, str):
            raise BadTask("model is required")
        if name not in view.models:
            raise NoSuchModel(said)
        return name

    async def _load_or_unload(self, model: str, keep_s: float | None) -> None:
        if keep_s == 0:
            self._engine.memory.unload(model)
            return
        async with self._engine.memory.using(model, keep_s):
            pass

    # What it refuses

    def _error(self, path: str) -> Error:
        if path.startswith("/api/"):
            return text_error
        return anthropic_error if path == MESSAGES else self._dialect.style.error

    def _guarded(self, path: str, handle: Handler) -> Handler:
        """The handler, with what it raises turned into the API's own error."""
        error = self._error(path)
        tells_sizes = error is self._dialect.style.error

        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                return await handle(request)
            except NoSuchModel as refusal:
                return _json(error(404, str(refusal)), 404)
            except PromptTooLong as refusal:
                told = openai.too_long(refusal, self._dialect.style) if tells_sizes else None
                return _json(told or error(400, str(refusal)), 400)
            except BadTask as refusal:
                return _json(error(400, str(refusal)), 400)
            except TooManyWait:
                status, message = self._dialect.full
                return _json(error(status, message), status)
            except ConnectionError:  # the client left while we wrote to it, which is nobody's defect
                return web.Response(status=_CLIENT_IS_GONE)

        return guarded


async def _read_body(request: web.Request) -> Body:
    try:
        body = json.loads(await request.read())
    except ValueError as error:
        raise BadTask("the body is not JSON") from error
    if not isinstance(body, dict):
        raise BadTask("the body must be a JSON object")
    return cast("Body", body)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=to_json(value), headers={"Content-Type": JSON})
