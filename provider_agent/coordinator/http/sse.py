"""An event stream to one client: opened as late as possible, one write for all that waits; knows no job."""

from aiohttp import web

from provider_agent.coordinator.answer import Failed
from provider_agent.coordinator.http.errors import failed_json, failed_response

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

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._response: web.StreamResponse | None = None
        self._last = b""

    @property
    def is_open(self) -> bool:
        """Whether the client has been told that this is an event stream."""
        return self._response is not None

    async def comment(self, headers: dict[str, str]) -> None:
        await self.write(COMMENT, headers)

    async def write(self, data: bytes, headers: dict[str, str]) -> None:
        """Write bytes as they are; waits while the client does not take them."""
        response = self._response or await self._open(headers)
        await response.write(data)
        self._last = data

    async def end(self, headers: dict[str, str]) -> web.StreamResponse:
        response = self._response or await self._open(headers)
        await response.write_eof()
        return response

    async def fail(self, failed: Failed, headers: dict[str, str]) -> web.StreamResponse:
        response = self._response
        if response is None:
            return failed_response(failed, headers)
        # An event of the engine's may have been cut: the error must not become a part of it.
        gap = b"" if self._last.endswith(b"\n\n") else b"\n\n"
        await response.write(gap + b"data: " + failed_json(failed) + b"\n\n")
        await response.write_eof()
        return response

    async def _open(self, headers: dict[str, str]) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers | HEADERS)
        await response.prepare(self._request)
        self._response = response
        return response
