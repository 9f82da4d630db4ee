"""Every refusal in the form that the clients of its path read; knows no job and no agent."""

import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from provider_agent.coordinator.answer import Failed
from provider_agent.coordinator.http.dialect import OPENAI, Dialect, dialect_of
from provider_agent.coordinator.store.base import StoreError
from provider_agent.telemetry.logs import get_logger

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
_CLIENT_IS_GONE = 499

log = get_logger(__name__)


class RequestError(Exception):
    """The client's request cannot be served as it is; the text is one sentence for the client."""

    def __init__(self, status: int, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param


def error_response(
    status: int,
    code: str | None,
    message: str,
    *,
    dialect: Dialect = OPENAI,
    param: str | None = None,
    retry_after_s: float | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    headers = dict(headers or {})
    if retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    body = dialect.error(status, code, message, param)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def failed_json(dialect: Dialect, failed: Failed) -> bytes:
    """What ends a stream that will not be whole."""
    return dialect.error(failed.http_status, failed.code, failed.message, None)


def failed_response(dialect: Dialect, failed: Failed, headers: dict[str, str]) -> web.Response:
    return error_response(
        failed.http_status,
        failed.code,
        failed.message,
        dialect=dialect,
        retry_after_s=failed.retry_after_s,
        headers=headers,
    )


@web.middleware
async def tell_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give whatever a handler raises its clients' form; a defect of ours is logged, and told as 500.

    The one broad `except` of the doors: one request must not take others along, and aiohttp's own
    answer is not JSON.
    """
    dialect = dialect_of(request.path)
    try:
        return await handler(request)
    except RequestError as error:
        return error_response(error.status, error.code, error.message, param=error.param, dialect=dialect)
    except StoreError:
        message = "the coordinator's store cannot be used now"
        return error_response(503, "store_unavailable", message, dialect=dialect)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return translated(error, dialect, path=request.path)
    except ConnectionError:  # the client left while we wrote to it
        return web.Response(status=_CLIENT_IS_GONE)
    except Exception:
        log.exception("request_crashed", path=request.path)
        if request.writer.output_size > 0:
            hang_up(request)
        return error_response(500, "internal", "the coordinator failed on this request", dialect=dialect)


def hang_up(request: web.Request) -> None:
    """Close the connection without the end of the answer, so that what was sent does not look whole."""
    if request.transport is not None:
        request.transport.close()


def translated(error: web.HTTPException, dialect: Dialect = OPENAI, *, path: str = "/v1/") -> web.Response:
    """What the library would say, in our clients' form."""
    code = _CODES.get(error.status, HTTPStatus(error.status).phrase.lower().replace(" ", "_"))
    message = error.reason
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        message = "the request body is too large"
    elif error.status == HTTPStatus.NOT_FOUND:
        message = f"there is nothing at this path{_hint(path)}"
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return error_response(error.status, code, message, dialect=dialect, headers=headers)


def _hint(path: str) -> str:
    """What is likely wrong with the base URL of a client that asks there."""
    if path.startswith("//"):
        return ": the base URL ends with a slash too many"
    if path.startswith(("/v1/v1/", "/v1/api/")):
        return ": the base URL of Anthropic's and Ollama's clients ends without /v1"
    return "" if path.startswith(("/v1/", "/api/")) else ": the base URL of OpenAI's clients ends with /v1"
