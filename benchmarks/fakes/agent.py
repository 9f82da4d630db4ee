"""Joins a coordinator, and becomes `agent.c` with the socket: Python says the handshake, C does the work.

agent.py PORT PROGRAM
"""

import json
import os
import socket
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from handshake import answer, capabilities, frames_in, upgrade


def receive(connection: socket.socket, buffer: bytearray) -> dict[str, object]:
    """The next text frame."""
    while True:
        for _, payload in frames_in(buffer):
            said: dict[str, object] = json.loads(payload)
            return said
        buffer += connection.recv(65536)


def join(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(upgrade(port))
    buffer = bytearray()
    while b"\r\n\r\n" not in buffer:
        buffer += connection.recv(65536)
    del buffer[: buffer.index(b"\r\n\r\n") + 4]
    connection.sendall(answer(receive(connection, buffer), Ed25519PrivateKey.generate()))
    assert receive(connection, buffer)["type"] == "auth_ok"
    connection.sendall(capabilities())
    assert receive(connection, buffer)["type"] == "capabilities_ok"
    assert not buffer
    return connection


if __name__ == "__main__":
    joined = join(int(sys.argv[1]))
    joined.set_inheritable(True)
    os.execv(sys.argv[2], [sys.argv[2], str(joined.fileno())])  # noqa: S606 - this very program goes on as another
