"""What the agent asks of an engine, and how an engine may fail; knows no HTTP and no wire frame.

The tree of the errors; each class carries its wire code, so that nobody maps them again:

    BackendError
    ├── OutOfSockets            this machine has none left to reach an engine with
    ├── BackendUnreachable      connect failed
    ├── FirstByteTimeout        connected, and then nothing
    ├── IdleTimeout             silence in the middle of an answer
    ├── AuthRejected            401, 403
    ├── BadRequest              400, 422 and other 4xx: the client's request; the engine's message is kept
    ├── ModelNotFound           404: the engine does not have the model (or the path)
    ├── EndpointUnsupported     405, 501: the engine has the model, but not this endpoint
    ├── RequestTooLarge         413
    ├── RateLimited             429
    ├── BackendLoading          503
    ├── BackendFailed           other 5xx, or an answer that is none (HTML, empty, wrong type)
    ├── StreamTruncated         the body ended without its end mark
    └── StreamFailed            the engine reported an error inside its answer
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

from provider_agent.protocol.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """What the operator says of one engine (`[[backends]]`), its secret already looked up.

    Attributes:
        kind: engine family, or `auto` to tell it by its answers.
        url: base URL, with or without `/v1` or a trailing slash; None for the family's default.
        name: what to call it; None for one made of kind and port.
        models: globs of the engine's models that may be used.
        exclude: globs of those that may not.
        priority: lower is asked first.
        standby: it is asked only while no other engine has the model.
        aliases: public name -> this engine's name; goes before those of all engines.
    """

    kind: str
    url: str | None = None
    name: str | None = None
    api_key: str | None = field(default=None, repr=False)
    models: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    max_concurrent: int | None = None
    priority: int = 100
    standby: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BackendModel:
    """One model as an engine lists it.

    Attributes:
        model_id: the engine's own name for it: what requests must say.
        endpoints: paths that the engine serves for it.
        context_window: in tokens; None when the engine does not say.
        max_concurrent: slots that the engine really has for it; None when it does not say.
        fingerprint: what is really served (`sha256:…`), when the engine says.
        is_embedding: it embeds and does not chat.
        is_loaded: it is in memory, so that a job need not wait for it; None when the engine does not say.
        features: what it can do beside text, as `features()` gives it; None when the engine does not say.
    """

    model_id: str
    endpoints: frozenset[str]
    context_window: int | None = None
    max_concurrent: int | None = None
    fingerprint: str | None = None
    is_embedding: bool = False
    is_loaded: bool | None = None
    features: frozenset[str] | None = None


class Call(NamedTuple):
    """One request to an engine.

    Attributes:
        endpoint: the path, such as `/v1/chat/completions`.
        model: the engine's own name of the model; overwrites the body's.
        body: the client's JSON body, unparsed.
        stream: whether the client asked for a stream, for bodies that do not say.
        first_byte_timeout_s: from the request to the first byte of the answer's body.
        idle_timeout_s: between two reads after that.
        max_output_tokens: the operator's limit for the length of an answer, if there is one.
        allow_remote_media: whether the engine may be made to fetch pictures and the like.
    """

    endpoint: str
    model: str
    body: bytes
    stream: bool
    first_byte_timeout_s: float
    idle_timeout_s: float
    max_output_tokens: int | None = None
    allow_remote_media: bool = False


class Usage(NamedTuple):
    """Tokens that the engine counted; None where it did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class Reply(Protocol):
    """An engine's answer, from its headers on.

    Attributes:
        http_status: always 2xx: anything else was raised as a BackendError.
        content_type: as the engine sent it.
        usage: what is known so far; also after an error or a cancel.
    """

    @property
    def http_status(self) -> int: ...
    @property
    def content_type(self) -> str: ...
    @property
    def usage(self) -> Usage: ...

    async def relay(self, take: Callable[[bytes], None]) -> None:
        """Give each piece of the answer to `take`, in order, never empty; return when the answer is whole.

        `take` is called as the bytes come, from within the socket's callback; what it raises is raised here.
        To be called once. Raises BackendError when the answer is not whole.
        """
        ...

    def pause(self) -> None:
        """Stop reading the engine; may be called from within `take`.

        What is already read may still come: 64 KiB at most. Paused time is not the engine's.
        """
        ...

    def resume(self) -> None:
        """Read on."""
        ...


class Backend(Protocol):
    """One engine at one address.

    Attributes:
        name: unique on this agent; what logs, heartbeats and metrics call it.
        kind: engine family (`ollama`, `vllm`, …).
        url: normalised base URL, without a trailing slash and without `/v1`.
        max_concurrent: what the operator allows; None for no limit of its own.
        priority: lower is asked first.
        standby: it is asked only while no other engine has the model.
        aliases: public name -> this engine's name, where the operator gives it names of its own.
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def max_concurrent(self) -> int | None: ...
    @property
    def priority(self) -> int: ...
    @property
    def standby(self) -> bool: ...
    @property
    def aliases(self) -> Mapping[str, str]: ...

    async def list_models(self) -> tuple[BackendModel, ...]:
        """What it serves now. Raises BackendError; this is the health check, too."""
        ...

    async def keep_warm(self, model: BackendModel, *, within_s: float) -> None:
        """Load a model that is not in memory, and keep one that is: it stays there for some minutes.

        Does nothing where that needs nothing, or cannot be asked for, and never what costs money. Returns
        once the model is loaded, for which the engine has `within_s`. Raises BackendError.
        """
        ...

    def open(self, call: Call) -> AbstractAsyncContextManager[Reply]:
        """Send the request; entering waits for the response headers.

        Leaving closes the engine's connection before it returns: that is how an engine is told to
        stop. Only after a whole answer it may be kept for the next job. Raises BackendError on entering.
        """
        ...


class BackendError(Exception):
    """An engine did not do its job.

    Attributes:
        code: what the wire calls it.
        message: one sentence of ours (and the engine's own for 4xx); no address, key or prompt.
        http_status: the engine's, if it gave one.
        retry_after_ms: the engine's wish, if it gave one.
    """

    code: ClassVar[ErrorCode] = ErrorCode.BACKEND_ERROR

    def __init__(
        self, message: str, *, http_status: int | None = None, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.http_status = http_status
        self.retry_after_ms = retry_after_ms


class OutOfSockets(BackendError):
    """No connection could be begun: a shortage of ours, which says nothing about the engine."""

    code = ErrorCode.OUT_OF_CAPACITY


class BackendUnreachable(BackendError):
    """Connect failed."""

    code = ErrorCode.BACKEND_UNREACHABLE


class FirstByteTimeout(BackendError):
    """Connected, and then nothing for `first_byte_timeout_s`."""

    code = ErrorCode.FIRST_BYTE_TIMEOUT


class IdleTimeout(BackendError):
    """Silence for `idle_timeout_s` in the middle of an answer."""

    code = ErrorCode.IDLE_TIMEOUT


class AuthRejected(BackendError):
    """401 or 403: the operator's key for this engine is wrong or missing."""

    code = ErrorCode.AUTH_REJECTED_BY_BACKEND


class BadRequest(BackendError):
    """The engine refuses the client's request; its message is kept."""

    code = ErrorCode.BAD_REQUEST


class ModelNotFound(BackendError):
    """404: the engine does not have the model any more."""

    code = ErrorCode.MODEL_NOT_LOADED


class EndpointUnsupported(BackendError):
    """405 or 501: llama.cpp without `--embeddings`, for example."""

    code = ErrorCode.UNSUPPORTED_ENDPOINT


class RequestTooLarge(BackendError):
    """413."""

    code = ErrorCode.REQUEST_TOO_LARGE


class RateLimited(BackendError):
    """429."""

    code = ErrorCode.RATE_LIMITED


class BackendLoading(BackendError):
    """503: the engine is there and loads a model, or is too busy for now."""

    code = ErrorCode.BACKEND_LOADING


class BackendFailed(BackendError):
    """Other 5xx, or an answer that is none."""

    code = ErrorCode.BACKEND_ERROR


class StreamTruncated(BackendError):
    """The body ended without the endpoint's own end mark."""

    code = ErrorCode.STREAM_TRUNCATED


class StreamFailed(BackendError):
    """The engine reported an error inside its answer."""

    code = ErrorCode.STREAM_ERROR
