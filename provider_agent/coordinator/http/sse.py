"""An event stream to one client: opened as late as possible, ended in words when it fails; knows no job."""

from aiohttp import web

from provider_agent.coordinator.answer import Answer, Failed
from provider_agent.coordinator.http.errors import failed_json, failed_response
from provider_agent.coordinator.http.outflow import StreamResponse, relay

COMMENT = b": waiting for the engine\n\n"
"""Ignored by every reader of event streams; tells proxies that the answer lives (field note 74)."""

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would hold the stream back until its end
}


class EventStream:
    """One answer as an event stream.

    Until it is opened, by a comment or by bytes, a failure is an ordinary HTTP error. From then on
    it is an event that ends the answer in place of the engine's own end, so that no half looks whole.
    """

    def __init__(self, request: web.Request, answer: Answer) -> None:
        self._request = request
        self._answer = answer
        self._response: web.StreamResponse | None = None

    @property
    def is_open(self) -> bool:
        """Whether the client has been told that this is an event stream."""
        return self._response is not None

    async def comment(self, headers: dict[str, str]) -> None:
        response = self._open(headers)
        await response.prepare(self._request)
        await response.write(COMMENT)

    async def relay(self, headers: dict[str, str]) -> web.StreamResponse:
        """Pass the answer on as it comes, to its end, whichever that is."""
        response = self._open(headers)
        end = await relay(self._request, response, self._answer)
        rest = self._answer.take()
        if isinstance(end, Failed):
            rest += self._last_words(end)
        await response.write_eof(rest)
        return response

    async def fail(self, failed: Failed, headers: dict[str, str]) -> web.StreamResponse:
        """End an answer of which the client has not seen a byte, and never will."""
        if self._response is None:
            return failed_response(failed, headers)
        await self._response.write_eof(self._last_words(failed))
        return self._response

    def _open(self, headers: dict[str, str]) -> web.StreamResponse:
        if self._response is None:
            self._response = StreamResponse(self._request, headers=headers | HEADERS)
        return self._response

    def _last_words(self, failed: Failed) -> bytes:
        """The event for a failure; it must not become a part of one of the engine's that was cut."""
        gap = b"" if self._answer.is_between_events or not self._answer.taken else b"\n\n"
        return gap + b"data: " + failed_json(failed) + b"\n\n"
