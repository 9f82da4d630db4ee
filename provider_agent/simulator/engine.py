"""Makes one answer and sends it at its pace, or fails as ordered; knows no API and no route."""

import asyncio
import time
from dataclasses import dataclass

from aiohttp import hdrs, web

from provider_agent.simulator.config import SimulatorConfig
from provider_agent.simulator.dialects.base import Dialect
from provider_agent.simulator.failures import HEADER, Failures, UnknownFailure
from provider_agent.simulator.forms import Form, Timing
from provider_agent.simulator.memory import Memory
from provider_agent.simulator.pacing import Clock, Sleep, paced
from provider_agent.simulator.slots import Slots
from provider_agent.simulator.task import Answer, BadTask, Task, compose

JSON = "application/json; charset=utf-8"

_HTML = "<!DOCTYPE html><html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"
_STATUS_MESSAGES = {401: "Invalid API key", 429: "Too many requests", 503: "Loading model"}
_RETRY_AFTER = {429: "1", 503: "1"}


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One request, and all that is known of its answer beforehand."""

    request: web.Request
    form: Form
    answer: Answer
    failures: Failures
    is_streamed: bool

    @property
    def breaks(self) -> bool:
        after = self.failures.breaks_after
        return after is not None and after <= len(self.answer.pieces)

    @property
    def pieces(self) -> tuple[str, ...]:
        """What is said before the answer ends or breaks."""
        return self.answer.pieces[: self.failures.breaks_after] if self.breaks else self.answer.pieces


class Engine:
    """The part that all APIs share.

    Attributes:
        models: their names, as the dialect spells them.
        slots: where answers are made.
        memory: which models are loaded.
    """

    def __init__(
        self,
        config: SimulatorConfig,
        dialect: Dialect,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self._hangs_up = dialect.hangs_up
        self._starts_s = clock() + (config.load_s if dialect.loads == "answering 503" else 0.0)
        self.models = tuple(map(dialect.name_of, config.models))
        self.slots = Slots(config.slots, dialect.most_waiting)
        load_s = config.load_s if dialect.loads == "on demand" else 0.0
        self.memory = Memory(self.models, load_s=load_s, keep_s=dialect.keep_s, clock=clock, sleep=sleep)

    @property
    def is_starting(self) -> bool:
        """It listens, and cannot answer anything yet."""
        return self._clock() < self._starts_s

    async def serve(
        self, request: web.Request, model: str, task: Task, form: Form, *, keep_s: float | None = None
    ) -> web.StreamResponse:
        """Answer one request. Being cancelled (the client left) frees the slot at once.

        `model` is its name in the memory, and `keep_s` how long it stays there after this, if the request
        says so. Raises BadTask or TooManyWait before anything was sent.
        """
        answer = compose(task, self._config.context_window)
        failures = self._ordered_failures(request)
        exchange = _Exchange(request, form, answer, failures, task.stream)
        return await self._serve(exchange, model, keep_s)

    async def serve_body(
        self, request: web.Request, model: str, form: Form, *, keep_s: float | None = None
    ) -> web.StreamResponse:
        """The same for an answer that is not made of tokens."""
        failures = self._ordered_failures(request)
        exchange = _Exchange(request, form, Answer((), 0, "stop"), failures, is_streamed=False)
        return await self._serve(exchange, model, keep_s)

    async def _serve(self, exchange: _Exchange, model: str, keep_s: float | None) -> web.StreamResponse:
        async with self.memory.using(model, keep_s), self.slots.one():
            if exchange.failures.slow_headers:
                await self._sleep(exchange.failures.slow_headers / 1000)
            instead = _instead_of_answer(exchange)
            if instead is not None:
                return instead
            return await (self._stream if exchange.is_streamed else self._whole)(exchange)

    def _ordered_failures(self, request: web.Request) -> Failures:
        try:
            return self._config.failures.plus(request.headers.getall(HEADER, []))
        except UnknownFailure as error:
            raise BadTask(str(error)) from error

    async def _stream(self, exchange: _Exchange) -> web.StreamResponse:
        start_s, form = self._clock(), exchange.form
        response = web.StreamResponse(headers=_stream_headers(form))
        await response.prepare(exchange.request)
        waiting, piece, pieces = form.begin(), form.piece, exchange.pieces
        async for due in paced(len(pieces), self._config.pace, clock=self._clock, sleep=self._sleep):
            await response.write(waiting + b"".join(map(piece, pieces[due])))
            waiting = b""
        if exchange.breaks:
            await _break_stream(exchange, response)
            return response
        marked = not exchange.failures.no_done
        await response.write_eof(waiting + form.end(exchange.answer, self._timing(start_s), marked=marked))
        if self._hangs_up and exchange.request.transport is not None:
            exchange.request.transport.close()
        return response

    async def _whole(self, exchange: _Exchange) -> web.StreamResponse:
        start_s = self._clock()
        await self._sleep(self._config.pace.due_s(max(0, len(exchange.pieces) - 1)))
        failures, form = exchange.failures, exchange.form
        if exchange.breaks and failures.error_after is not None:
            return _json(500, form.refusal(500, "the engine failed, as ordered"))
        body = form.whole(exchange.answer, self._timing(start_s))
        if not exchange.breaks:
            return _json(200, body)
        half = body[: len(body) // 2]
        if failures.cut_after is None and failures.end_after is not None:
            return _json(200, half)
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: JSON, hdrs.CONTENT_LENGTH: str(len(body))})
        await response.prepare(exchange.request)
        await response.write(half)
        await _cut_or_fall_silent(exchange)
        return response

    def _timing(self, start_s: float) -> Timing:
        total_ns = int((self._clock() - start_s) * 1e9)
        return Timing(min(total_ns, int(self._config.pace.first_token_s * 1e9)), total_ns)


def _stream_headers(form: Form) -> dict[str, str]:
    return {
        hdrs.CONTENT_TYPE: form.stream_type,
        hdrs.CACHE_CONTROL: "no-cache",
        "X-Accel-Buffering": "no",
    }


def _instead_of_answer(exchange: _Exchange) -> web.Response | None:
    """An order that leaves nothing of the answer: 1. a status, 2. a page, 3. nothing at all."""
    failures = exchange.failures
    if failures.status is not None:  # 1
        message = _STATUS_MESSAGES.get(failures.status, "the engine failed, as ordered")
        return _json(failures.status, exchange.form.refusal(failures.status, message))
    if failures.html:  # 2
        return web.Response(text=_HTML, content_type="text/html")
    if failures.empty:  # 3
        kind = exchange.form.stream_type if exchange.is_streamed else JSON
        return web.Response(body=b"", headers={hdrs.CONTENT_TYPE: kind})
    return None


async def _break_stream(exchange: _Exchange, response: web.StreamResponse) -> None:
    failures = exchange.failures
    if failures.error_after == failures.breaks_after:
        await response.write(exchange.form.error("the engine failed, as ordered"))
    if failures.breaks_after in (failures.error_after, failures.end_after):
        await response.write_eof()
    else:
        await _cut_or_fall_silent(exchange)


async def _cut_or_fall_silent(exchange: _Exchange) -> None:
    failures = exchange.failures
    if failures.cut_after != failures.breaks_after:
        await asyncio.Event().wait()  # until the client leaves
    if exchange.request.transport is not None:
        exchange.request.transport.close()


def _json(status: int, body: bytes) -> web.Response:
    headers = {hdrs.CONTENT_TYPE: JSON}
    if status in _RETRY_AFTER:
        headers[hdrs.RETRY_AFTER] = _RETRY_AFTER[status]
    return web.Response(status=status, body=body, headers=headers)
