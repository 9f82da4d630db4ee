"""An HTTP client on a bare socket: it reads when the test says so, and tells how its answer ended."""

import asyncio
import json
import re
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

HOST = "127.0.0.1"
READ_BYTES = 64 * 1024

_COMMENT = re.compile(rb"^: ?[^\n]*\n\n", re.MULTILINE)


@dataclass(frozen=True)
class Heard:
    """One answer, as far as it came.

    Attributes:
        status: 0 when there was no whole head.
        body: without the comments that keep a stream open.
        is_cut: the connection ended before the body did.
    """

    status: int
    body: bytes
    is_cut: bool

    @property
    def is_whole(self) -> bool:
        return self.status == 200 and not self.is_cut and self.error == ""

    @property
    def error(self) -> str:
        """The code that it was told, by status or by the event that ends the stream; "" for none."""
        last = self.body if self.status != 200 else self.body.rstrip().rpartition(b"\n\n")[2]
        try:
            told = json.loads(last.removeprefix(b"data: "))
        except ValueError:
            return ""
        return str(told["error"]["code"]) if "error" in told else ""

    def has_one_clean_end(self, expected: bytes) -> bool:
        """Whole and right; or a beginning of it and one error, or a cut, and nothing that looks whole."""
        if self.is_whole:
            return self.body == expected
        if self.status != 200:
            return self.error != "" or (self.is_cut and not self.body)
        said, _, last = self.body.rpartition(b"data: ") if self.error else (self.body, b"", b"")
        return (self.is_cut or last.count(b"\n\n") == 1) and expected.startswith(said) and said != expected


class RawClient:
    """Asks once while it is entered; nothing is read that the test does not read.

    Attributes:
        raw: all bytes that were read.
    """

    def __init__(
        self,
        port: int,
        body: Mapping[str, Any],
        *,
        room_bytes: int | None = None,
        path: str = "/v1/chat/completions",
        headers: Mapping[str, str] | None = None,
        host: str = HOST,
        through: socket.socket | None = None,
    ) -> None:
        """`room_bytes`: what the kernel may hold for us; the sender soon notices who does not read.

        `through`: a socket that is not connected yet, such as one of another machine.
        """
        self.raw = bytearray()
        content = json.dumps(body).encode()
        fields = {"Host": HOST, "Content-Length": str(len(content)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._request = f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + content
        self._address = (host, port)
        self._socket = through or socket.socket()
        self._socket.setblocking(False)
        if room_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room_bytes)
        self._end: str = ""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, self._address)
        await loop.sock_sendall(self._socket, self._request)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Leave without a goodbye."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    async def read(self, size_bytes: int = READ_BYTES) -> bytes:
        """What is there, and that soon; b"" at the end, however it ends."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, size_bytes)
        except ConnectionError:
            self._end = "reset"
            return b""
        self.raw += data
        self._end = "" if data else "closed"
        return data

    async def first(self, count: int = 1, read_bytes: int = READ_BYTES) -> None:
        """Read until so many events have come."""
        while len(re.findall(rb"data: [^\n]*\n\n", self.raw)) < count:
            if not await self.read(read_bytes):
                raise AssertionError(f"it ended before its event {count}: {bytes(self.raw)!r}")

    @property
    def _may_be_over(self) -> bool:
        """Worth a closer look: reading all of it at each step would cost more the longer it is."""
        return self.raw.endswith(b"0\r\n\r\n") or b"chunked" not in self.raw[:2048].lower()

    async def rest(self) -> Heard:
        """Read to the end."""
        while not self._end and not (self._may_be_over and _heard(bytes(self.raw), is_over=False)):
            await self.read()
        heard = _heard(bytes(self.raw), is_over=True)
        assert heard is not None
        return heard


async def ask(port: int, body: Mapping[str, Any], **options: Any) -> Heard:
    """One request to its end."""
    async with RawClient(port, body, **options) as client:
        return await client.rest()


def _heard(raw: bytes, *, is_over: bool) -> Heard | None:
    """The answer in these bytes; None while it is not over."""
    head, mark, rest = raw.partition(b"\r\n\r\n")
    if not mark:
        return Heard(0, b"", is_cut=True) if is_over else None
    fields = head.lower()
    length = re.search(rb"\r\ncontent-length: *(\d+)", fields)
    if b"transfer-encoding: chunked" in fields:
        body, is_whole = _unchunked(rest) if is_over or rest.endswith(b"0\r\n\r\n") else (b"", False)
    else:
        body, is_whole = rest, length is not None and len(rest) >= int(length[1])
    if not (is_over or is_whole):
        return None
    return Heard(int(head.split(b" ", 2)[1]), _COMMENT.sub(b"", body), is_cut=not is_whole)


def _unchunked(rest: bytes) -> tuple[bytes, bool]:
    """The body in HTTP chunks, as far as it came, and whether it came to its end."""
    body: list[bytes] = []
    at = 0
    while (line_end := rest.find(b"\r\n", at)) >= 0:
        size = int(rest[at:line_end], 16)
        if size == 0:
            return b"".join(body), True
        body.append(rest[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2
    return b"".join(body), False
