"""OpenAI's endpoints over the whole fleet; bytes go through unparsed. Knows no agent and no frame."""

import re
from http import HTTPStatus

import msgspec
from aiohttp import hdrs, web

from provider_agent.coordinator.admission import Admission, Client
from provider_agent.coordinator.answer import Answer, Failed
from provider_agent.coordinator.dispatcher import Dispatcher
from provider_agent.coordinator.failures import failed
from provider_agent.coordinator.fleet import endpoints_of
from provider_agent.coordinator.http.body import BODY_PATIENCE_S, read_body, receive_body
from provider_agent.coordinator.http.errors import RequestError, error_response, failed_response, hang_up
from provider_agent.coordinator.http.outflow import StreamResponse, relay
from provider_agent.coordinator.http.sse import EventStream
from provider_agent.coordinator.jobs import JobRequest
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import ModelOffer

JOB_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")

HELD_BYTES = 1024 * 1024
"""So much of an unstreamed answer is held until it is whole: till then, another agent may begin anew."""

NOT_STREAMED = failed(ErrorCode.BACKEND_ERROR, "the engine did not stream its answer")

_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; *[\w-]+=[\w.\"-]+)*", re.ASCII)
_STATUSES = frozenset(range(200, 600)) - {204, 205, 304}
"""What an answer may have. Behind the head of one without a body, its bytes would be the next response."""


class OpenAIDoor:
    """Serves clients that speak OpenAI's API."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        admission: Admission,
        *,
        keepalive_s: float = 15.0,
        body_patience_s: float = BODY_PATIENCE_S,
        created: int = 0,
    ) -> None:
        self._dispatcher = dispatcher
        self._admission = admission
        self._keepalive_s = keepalive_s
        self._body_patience_s = body_patience_s
        self._created = created

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_get("/v1/models/{model_id:.+}", self._show_model)
        for path in JOB_PATHS:
            app.router.add_post(path, self._serve_job)

    async def _admit(self, request: web.Request) -> Client:
        client = await self._admission.check(request.headers.get(hdrs.AUTHORIZATION))
        if client is None:
            raise RequestError(
                401,
                "invalid_api_key",
                "this API key is not known here, or it is missing (Authorization: Bearer …)",
            )
        return client

    # --- models ---------------------------------------------------------------------------

    async def _list_models(self, request: web.Request) -> web.Response:
        await self._admit(request)
        data = [self._model(model_id, offers) for model_id, offers in self._dispatcher.fleet.models.items()]
        return _json({"object": "list", "data": data})

    async def _show_model(self, request: web.Request) -> web.Response:
        await self._admit(request)
        model_id = request.match_info["model_id"]
        offers = self._dispatcher.fleet.models.get(model_id)
        if offers is None:
            return error_response(
                404, "model_not_found", f"no agent serves the model {model_id[:128]!r}", param="model"
            )
        return _json(self._model(model_id, offers))

    def _model(self, model_id: str, offers: tuple[ModelOffer, ...]) -> dict[str, object]:
        windows = [offer.context_window for offer in offers if offer.context_window is not None]
        return {
            "id": model_id,
            "object": "model",
            "created": self._created,
            "owned_by": "provider-agent",
            "context_window": min(windows, default=None),
            "endpoints": endpoints_of(offers),
        }

    # --- jobs -----------------------------------------------------------------------------

    async def _serve_job(self, request: web.Request) -> web.StreamResponse:
        client = await self._admit(request)
        body = await receive_body(request, self._body_patience_s)
        wanted = read_body(body)
        job = JobRequest(wanted.model_id, request.path, body, wanted.stream, client.name)
        with self._dispatcher.run(job) as answer:
            if wanted.stream:
                return await self._stream(request, answer)
            return await _respond(request, answer)

    async def _stream(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        """Pass the answer on as it comes; while nothing comes, say so every `keepalive_s`.

        An engine that does not stream has one whole body to give: it is passed on as what it is,
        unless the client has already been told that events follow.
        """
        stream = EventStream(request, answer)
        while not await answer.ready(within_s=self._keepalive_s):
            if stream.is_open or _may_be_events(answer):
                answer.announced = True
                await stream.comment(_headers(answer))
        if isinstance(answer.outcome, Failed):
            return await stream.fail(answer.outcome, _headers(answer))
        if _may_be_events(answer):
            return await stream.relay(_headers(answer))
        if stream.is_open:
            return await stream.fail(NOT_STREAMED, _headers(answer))
        return await _respond(request, answer)


async def _respond(request: web.Request, answer: Answer) -> web.StreamResponse:
    """The answer in one piece, or, when it is too large to be held, as it comes."""
    answer.hold(HELD_BYTES)
    await answer.ready(HELD_BYTES)
    if isinstance(answer.outcome, Failed):
        return failed_response(answer.outcome, _headers(answer))
    status = answer.http_status if answer.http_status in _STATUSES else HTTPStatus.BAD_GATEWAY
    headers = _headers(answer) | {hdrs.CONTENT_TYPE: _media_type(answer)}
    if answer.outcome is not None:
        return web.Response(status=status, body=answer.take(), headers=headers)
    response = StreamResponse(request, status=status, headers=headers)
    end = await relay(request, response, answer)
    await response.write(answer.take())
    if isinstance(end, Failed):
        hang_up(request)
    return response


def _headers(answer: Answer) -> dict[str, str]:
    """Which job it was, and whose, as far as that is known by now."""
    headers = {"X-Job-Id": answer.job_id}
    if answer.agent:
        headers["X-Agent"] = answer.agent
    return headers


def _may_be_events(answer: Answer) -> bool:
    """Whether it is an event stream, as far as is known by now."""
    kind = answer.content_type.partition(";")[0].strip().lower()
    return kind in {"", "text/event-stream"}


def _media_type(answer: Answer) -> str:
    """What the agent says it is, if that can stand in a header; what is asked for unstreamed is JSON."""
    if not answer.content_type:
        return "application/json"
    return answer.content_type if _MEDIA_TYPE.fullmatch(answer.content_type) else "application/octet-stream"


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
