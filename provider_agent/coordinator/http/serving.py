"""A client's request that becomes a job, and its answer on the way back; knows no API and no agent.

Bytes go through unparsed, but for what routing needs. What the doors differ in is their `Dialect`.
"""

import re
from collections.abc import Callable
from http import HTTPStatus

import msgspec
from aiohttp import hdrs, web

from provider_agent.coordinator.admission import Admission, Client
from provider_agent.coordinator.answer import Answer, Failed
from provider_agent.coordinator.dispatcher import Dispatcher
from provider_agent.coordinator.failures import failed
from provider_agent.coordinator.http.body import read_body, receive_body
from provider_agent.coordinator.http.dialect import Dialect
from provider_agent.coordinator.http.errors import RequestError, failed_response, hang_up
from provider_agent.coordinator.http.naming import meant
from provider_agent.coordinator.http.outflow import StreamResponse, relay
from provider_agent.coordinator.http.stream import AnswerStream
from provider_agent.coordinator.jobs import JobRequest
from provider_agent.protocol.errors import ErrorCode

KEEPALIVE_S = 15.0

HELD_BYTES = 1024 * 1024
"""So much of an unstreamed answer is held until it is whole: till then, another agent may begin anew."""

NOT_STREAMED = failed(ErrorCode.BACKEND_ERROR, "the engine did not stream its answer")

_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; *[\w-]+=[\w.\"-]+)*", re.ASCII)
_STATUSES = frozenset(range(200, 600)) - {204, 205, 304}
"""What an answer may have. Behind the head of one without a body, its bytes would be the next response."""


class Serving:
    """Serves the requests that come through one door."""

    def __init__(
        self,
        dialect: Dialect,
        dispatcher: Dispatcher,
        admission: Admission,
        *,
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        self._dialect = dialect
        self._dispatcher = dispatcher
        self._admission = admission
        self._keepalive_s = keepalive_s

    async def admit(self, request: web.Request) -> Client:
        """Who asks. Raises RequestError for a stranger."""
        client = await self._admission.check(_credentials(request))
        if client is None:
            raise RequestError(
                401,
                "invalid_api_key",
                "this API key is not known here, or it is missing (Authorization: Bearer …)",
            )
        return client

    def model_of(self, name: str) -> str:
        """The model that a client means by a name; one that nobody has ever heard of is its own."""
        return meant(self._dispatcher.fleet, name) or name

    async def serve(
        self,
        request: web.Request,
        *,
        streams_unless_told: bool = False,
        model_of: Callable[[str], str] | None = None,
    ) -> web.StreamResponse:
        """Have a job done, and pass its answer on.

        Args:
            request: what is sent to an engine under the same path.
            streams_unless_told: what this API means by a body that does not say `stream`.
            model_of: the model that a client means by a name, if this API has rules of its own for that.
        """
        client = await self.admit(request)
        body = await receive_body(request)
        wanted = read_body(body, streams_unless_told=streams_unless_told)
        model_id = (model_of or self.model_of)(wanted.model_id)
        job = JobRequest(model_id, request.path, body, wanted.stream, client.name)
        with self._dispatcher.run(job) as answer:
            if wanted.stream:
                return await self._stream(request, answer)
            return await self._respond(request, answer)

    async def _stream(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        """Pass the answer on as it comes; while nothing comes, say so every `keepalive_s`.

        An engine that does not stream has one whole body to give: it is passed on as what it is,
        unless the client has already been told that a stream follows.
        """
        dialect = self._dialect
        stream = AnswerStream(request, answer, dialect)
        while not await answer.ready(within_s=self._keepalive_s):
            if stream.is_open or dialect.may_be_stream(answer.content_type):
                answer.announced = True
                await stream.keep_alive(_headers(answer))
        if isinstance(answer.outcome, Failed):
            return await stream.fail(answer.outcome, _headers(answer))
        if dialect.may_be_stream(answer.content_type):
            return await stream.relay(_headers(answer))
        if stream.is_open:
            return await stream.fail(NOT_STREAMED, _headers(answer))
        return await self._respond(request, answer)

    async def _respond(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        """The answer in one piece, or, when it is too large to be held, as it comes."""
        answer.hold(HELD_BYTES)
        await answer.ready(HELD_BYTES)
        if isinstance(answer.outcome, Failed):
            return failed_response(self._dialect, answer.outcome, _headers(answer))
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


def page(value: object) -> web.Response:
    """What we answer ourselves, without a job."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _credentials(request: web.Request) -> str | None:
    """`Authorization`, or what Anthropic's clients send in its place."""
    said, key = request.headers.get(hdrs.AUTHORIZATION), request.headers.get("X-Api-Key")
    return f"Bearer {key}" if said is None and key is not None else said


def _headers(answer: Answer) -> dict[str, str]:
    """Which job it was, and whose, as far as that is known by now."""
    headers = {"X-Job-Id": answer.job_id}
    if answer.agent:
        headers["X-Agent"] = answer.agent
    return headers


def _media_type(answer: Answer) -> str:
    """What the agent says it is, if that can stand in a header; what is asked for unstreamed is JSON."""
    if not answer.content_type:
        return "application/json"
    return answer.content_type if _MEDIA_TYPE.fullmatch(answer.content_type) else "application/octet-stream"
