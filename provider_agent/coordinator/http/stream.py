"""A stream to one client: opened as late as possible, ended in words when it fails; knows no job."""

from aiohttp import web

from provider_agent.coordinator.answer import Answer, Failed
from provider_agent.coordinator.http.dialect import Dialect
from provider_agent.coordinator.http.errors import failed_json, failed_response
from provider_agent.coordinator.http.outflow import StreamResponse, relay

HEADERS = {
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would hold the stream back until its end
}


class AnswerStream:
    """One answer as a stream of events or lines.

    Until it is opened, by a sign of life or by bytes, a failure is an ordinary HTTP error. From then on it
    is an event or line that ends the answer in place of the engine's own end, so that no half looks whole.
    """

    def __init__(self, request: web.Request, answer: Answer, dialect: Dialect) -> None:
        self._request = request
        self._answer = answer
        self._dialect = dialect
        self._response: web.StreamResponse | None = None

    @property
    def is_open(self) -> bool:
        """Whether the client has been told that this is a stream."""
        return self._response is not None

    async def keep_alive(self, headers: dict[str, str]) -> None:
        """Tell proxies that the answer lives of which nothing has come yet (field note 74)."""
        response = self._open(headers)
        await response.prepare(self._request)
        await response.write(self._dialect.waiting)

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
            return failed_response(self._dialect, failed, headers)
        await self._response.write_eof(self._last_words(failed))
        return self._response

    def _open(self, headers: dict[str, str]) -> web.StreamResponse:
        if self._response is None:
            kind = {"Content-Type": self._dialect.stream_type}
            self._response = StreamResponse(self._request, headers=headers | HEADERS | kind)
        return self._response

    def _last_words(self, failed: Failed) -> bytes:
        """The event or line for a failure; it must not become a part of one of the engine's that was cut."""
        dialect, answer = self._dialect, self._answer
        is_between = not answer.taken or answer.ends_with(dialect.piece_end)
        gap = b"" if is_between else dialect.piece_end
        return gap + dialect.error_begin + failed_json(dialect, failed) + dialect.piece_end
