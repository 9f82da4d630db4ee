"""An agent's part of the handshake, message by message; knows no loop and no socket."""

import base64
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MODEL = "bench"
SLOTS = 2048
TEXT = 0x81


def upgrade(port: int) -> bytes:
    return (
        f"GET /v1/agents/connect HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: YmVuY2htYXJrYmVuY2htYQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: provider-agent.v3\r\n\r\n"
    ).encode()


def text(message: dict[str, object]) -> bytes:
    """A client's frame; its mask is zero."""
    payload = json.dumps(message, separators=(",", ":")).encode()
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes([TEXT]) + length + bytes(4) + payload


def answer(challenge: dict[str, object], key: Ed25519PrivateKey) -> bytes:
    """The proof of who this is, for a coordinator dialled as 127.0.0.1."""
    signed = b"provider-agent/3\x00127.0.0.1\x00" + base64.b64decode(str(challenge["nonce"]))
    return text(
        {
            "type": "auth_response",
            "pubkey": base64.b64encode(key.public_key().public_bytes_raw()).decode(),
            "signature": base64.b64encode(key.sign(signed)).decode(),
            "agent_version": "fake",
            "protocol": 3,
            "scheme": "ed25519-bound",
        }
    )


def capabilities() -> bytes:
    offer = {
        "model_id": MODEL,
        "backend": "fake",
        "max_concurrent": SLOTS,
        "input_per_1m": 0,
        "output_per_1m": 0,
    }
    return text(
        {
            "type": "capabilities",
            "models": [offer],
            "limits": {"max_concurrent_total": SLOTS},
            "metadata": {"agent_version": "fake"},
            "revision": 1,
        }
    )


def heartbeat() -> bytes:
    return text(
        {
            "type": "heartbeat",
            "queue_depth": 0,
            "active_jobs": 0,
            "max_concurrency": SLOTS,
            "free_slots": SLOTS,
            "draining": False,
            "uptime_s": 60.0,
        }
    )


def frames_in(buffer: bytearray) -> list[tuple[int, bytes]]:
    """The whole frames of a server at the head of the buffer, which are taken out of it: opcode, payload."""
    found = []
    while len(buffer) >= 2:
        size, head = buffer[1] & 0x7F, 2
        if size == 126:
            size, head = int.from_bytes(buffer[2:4]), 4
        elif size == 127:
            size, head = int.from_bytes(buffer[2:10]), 10
        if len(buffer) < head + size:
            break
        found.append((buffer[0] & 0x0F, bytes(buffer[head : head + size])))
        del buffer[: head + size]
    return found
