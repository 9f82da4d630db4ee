"""Every refusal in the shape that OpenAI's clients read; knows no job and no agent."""

import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
from aiohttp import web

from provider_agent.coordinator.answer import Failed
from provider_agent.coordinator.store.base import StoreError
from provider_agent.protocol.errors import ErrorCode
from provider_agent.telemetry.logs import get_logger

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_NAMES_AT_OPENAI = {ErrorCode.MODEL_NOT_LOADED.value: "model_not_found"}
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
_CLIENT_IS_GONE = 499
_FIRST_SERVER_ERROR = 500

log = get_logger(__name__)


class ErrorBody(msgspec.Struct, frozen=True):
    """What stands under `error`."""

    message: str
    type: str
    param: str | None
    code: str | None


class RequestError(Exception):
    """The client's request cannot be served as it is; the text is one sentence for the client."""

    def __init__(self, status: int, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param


def error_json(status: int, code: str | None, message: str, param: str | None = None) -> bytes:
    """`{"error": {...}}`, as the body of a response or the data of an event."""
    kind = _TYPES.get(status, "server_error" if status >= _FIRST_SERVER_ERROR else "invalid_request_error")
    return msgspec.json.encode({"error": ErrorBody(message, kind, param, code)})


def error_response(
    status: int,
    code: str | None,
    message: str,
    *,
    param: str | None = None,
    retry_after_s: float | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    headers = dict(headers or {})
    if retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    body = error_json(status, code, message, param)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def failed_json(failed: Failed) -> bytes:
    """The data of the event that ends a stream which will not be whole."""
    return error_json(failed.http_status, _code(failed), failed.message)


def failed_response(failed: Failed, headers: dict[str, str]) -> web.Response:
    return error_response(
        failed.http_status,
        _code(failed),
        failed.message,
        retry_after_s=failed.retry_after_s,
        headers=headers,
    )


@web.middleware
async def openai_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give whatever a handler raises OpenAI's shape; a defect of ours is logged, and told as 500.

    The one broad `except` of the doors: one request must not take others along, and aiohttp's own
    answer is not JSON.
    """
    try:
        return await handler(request)
    except RequestError as error:
        return error_response(error.status, error.code, error.message, param=error.param)
    except StoreError:
        return error_response(503, "store_unavailable", "the coordinator's store cannot be used now")
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return translated(error)
    except ConnectionError:  # the client left while we wrote to it
        return web.Response(status=_CLIENT_IS_GONE)
    except Exception:
        log.exception("request_crashed", path=request.path)
        if request.writer.output_size > 0:
            hang_up(request)
        return error_response(500, "internal", "the coordinator failed on this request")


def hang_up(request: web.Request) -> None:
    """Close the connection without the end of the answer, so that what was sent does not look whole."""
    if request.transport is not None:
        request.transport.close()


def translated(error: web.HTTPException) -> web.Response:
    """What the library would say, in OpenAI's shape."""
    code = _CODES.get(error.status, HTTPStatus(error.status).phrase.lower().replace(" ", "_"))
    message = (
        "the request body is too large"
        if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        else error.reason
    )
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return error_response(error.status, code, message, headers=headers)


def _code(failed: Failed) -> str:
    return _NAMES_AT_OPENAI.get(failed.code, failed.code)
