"""Makes one answer and sends it at its pace, or fails as ordered; knows no API and no route."""

import asyncio
import time
from dataclasses import dataclass

from aiohttp import hdrs, web

from provider_agent.simulator.config import SimulatorConfig
from provider_agent.simulator.failures import HEADER, Failures, UnknownFailure
from provider_agent.simulator.forms import Form, Timing
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
        slots: where answers are made.
    """

    def __init__(
        self, config: SimulatorConfig, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self.slots = Slots(config.slots)

    async def serve(self, request: web.Request, task: Task, form: Form) -> web.StreamResponse:
        """Answer one request. Being cancelled (the client left) frees the slot at once.

        Raises BadTask before anything was sent.
        """
        answer = compose(task, self._config.context_window)
        exchange = _Exchange(request, form, answer, self._ordered_failures(request))
        async with self.slots.one():
            if exchange.failures.slow_headers:
                await self._sleep(exchange.failures.slow_headers / 1000)
            instead = _instead_of_answer(exchange, task)
            if instead is not None:
                return instead
            return await (self._stream if task.stream else self._whole)(exchange)

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


def _instead_of_answer(exchange: _Exchange, task: Task) -> web.Response | None:
    """An order that leaves nothing of the answer: 1. a status, 2. a page, 3. nothing at all."""
    failures = exchange.failures
    if failures.status is not None:  # 1
        message = _STATUS_MESSAGES.get(failures.status, "the engine failed, as ordered")
        return _json(failures.status, exchange.form.refusal(failures.status, message))
    if failures.html:  # 2
        return web.Response(text=_HTML, content_type="text/html")
    if failures.empty:  # 3
        kind = exchange.form.stream_type if task.stream else JSON
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
