"""The simulated engine as an HTTP server: routes, start and stop; knows neither pace nor text.

async with Simulator(SimulatorConfig(models=("a",))) as simulator:
    simulator.url  # http://127.0.0.1:40123
"""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, cast

from aiohttp import web

from provider_agent.simulator import ollama, openai, openai_tasks
from provider_agent.simulator.config import SimulatorConfig
from provider_agent.simulator.embeddings import ollama_embeddings, openai_embeddings
from provider_agent.simulator.engine import JSON, Engine
from provider_agent.simulator.forms import Form, to_json
from provider_agent.simulator.pacing import Clock, Sleep
from provider_agent.simulator.slots import Slots
from provider_agent.simulator.task import BadTask, PromptTooLong, Task

MAX_BODY_BYTES = 64 * 1024 * 1024

_CLIENT_IS_GONE = 499

Body = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ReadTask = Callable[[Body], Task]
MakeForm = Callable[[Task], Form]


class Simulator:
    """One simulated engine on one port, from entering to leaving."""

    def __init__(
        self, config: SimulatorConfig, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._config = config
        self._engine = Engine(config, clock=clock, sleep=sleep)
        self._serial = itertools.count(1)
        self._runner = web.AppRunner(
            self._application(),
            handler_cancellation=True,  # a client that leaves frees its slot at once
            shutdown_timeout=0.1,  # answers under way are cut when the engine stops
            access_log=None,
        )
        self._port = 0

    @property
    def slots(self) -> Slots:
        return self._engine.slots

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"http://{self._config.host}:{self._port}"

    async def __aenter__(self) -> Self:
        """Listen. Raises OSError when the port is taken."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._config.host, self._config.port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._answers(openai_tasks.read_chat, self._chat_form))
        app.router.add_post("/v1/completions", self._answers(openai_tasks.read_completion, self._text_form))
        app.router.add_post("/v1/embeddings", _refusing(self._openai_embeddings, _openai_refusal))
        if self._config.api == "ollama":
            self._add_ollama(app.router)
        return app

    def _add_ollama(self, router: web.UrlDispatcher) -> None:
        router.add_get("/", _is_running)
        router.add_get("/api/version", _ollama_version)
        router.add_get("/api/tags", self._ollama_tags)
        router.add_get("/api/ps", self._ollama_loaded)
        router.add_post("/api/show", _refusing(self._ollama_show, _ollama_refusal))
        router.add_post("/api/chat", self._ollama_answers(ollama.read_chat, "chat"))
        router.add_post("/api/generate", self._ollama_answers(ollama.read_generate, "generate"))
        router.add_post("/api/embed", _refusing(self._ollama_embeddings, _ollama_refusal))

    # OpenAI

    async def _health(self, _request: web.Request) -> web.Response:
        slots = {"total": self.slots.total, "busy": self.slots.busy, "waiting": self.slots.waiting}
        return _json({"status": "ok", "slots": slots})

    async def _models(self, _request: web.Request) -> web.Response:
        return _json(openai.model_list(self._config.models, self._config.context_window, int(time.time())))

    def _answers(self, read: ReadTask, make_form: MakeForm) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await _read_body(request)
            self._require_model(body)
            task = read(body)
            return await self._engine.serve(request, task, make_form(task))

        return _refusing(handle, _openai_refusal)

    def _chat_form(self, task: Task) -> Form:
        return openai.ChatForm(task, f"{next(self._serial):08d}", int(time.time()))

    def _text_form(self, task: Task) -> Form:
        return openai.CompletionForm(task, f"{next(self._serial):08d}", int(time.time()))

    async def _openai_embeddings(self, request: web.Request) -> web.Response:
        body = await _read_body(request)
        self._require_model(body)
        return _json(openai_embeddings(body))

    # Ollama

    def _ollama_answers(self, read: ReadTask, endpoint: ollama.Endpoint) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await _read_body(request)
            task = read(body)
            self._require_model(body)
            form = ollama.OllamaForm(task, endpoint, datetime.now(UTC))
            if not task.prompt:
                return web.Response(body=form.nothing_asked(unload=body.get("keep_alive") == 0))
            return await self._engine.serve(request, task, form)

        return _refusing(handle, _ollama_refusal)

    async def _ollama_tags(self, _request: web.Request) -> web.Response:
        return _json(ollama.tags(self._config.models, datetime.now(UTC)))

    async def _ollama_loaded(self, _request: web.Request) -> web.Response:
        return _json(ollama.loaded(self._config.models, self._config.context_window))

    async def _ollama_show(self, request: web.Request) -> web.Response:
        body = await _read_body(request)
        self._require_model(body)
        return _json(ollama.show(body["model"], self._config.context_window))

    async def _ollama_embeddings(self, request: web.Request) -> web.Response:
        body = await _read_body(request)
        self._require_model(body)
        return _json(ollama_embeddings(body))

    def _require_model(self, body: Body) -> None:
        model = str(body.get("model", ""))
        known = {*self._config.models}
        if self._config.api == "ollama":
            known, model = {ollama.normal_name(name) for name in known}, ollama.normal_name(model)
        if model not in known:
            raise _NoSuchModel(str(body.get("model", "")))


class _NoSuchModel(Exception):
    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.model = model

    def __str__(self) -> str:
        return f"model '{self.model}' not found"


def _refusing(handle: Handler, refuse: Callable[[int, Exception], Body]) -> Handler:
    """The handler, with what it raises turned into the API's own error."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handle(request)
        except _NoSuchModel as error:
            return _json(refuse(404, error), 404)
        except BadTask as error:
            return _json(refuse(400, error), 400)
        except ConnectionError:  # the client left while we wrote to it, which is nobody's defect
            return web.Response(status=_CLIENT_IS_GONE)

    return guarded


def _openai_refusal(status: int, error: Exception) -> Body:
    if isinstance(error, PromptTooLong):
        return openai.too_long_body(error)
    return openai.error_body(status, str(error))


def _ollama_refusal(_status: int, error: Exception) -> Body:
    return {"error": str(error)}


async def _is_running(_request: web.Request) -> web.Response:
    return web.Response(text="Ollama is running")


async def _ollama_version(_request: web.Request) -> web.Response:
    return _json({"version": ollama.VERSION})


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
