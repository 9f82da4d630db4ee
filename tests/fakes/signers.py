"""An agent as far as the handshake is concerned: a key pair that answers challenges."""

import base64

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provider_agent.protocol.auth import signed_bytes
from provider_agent.protocol.frames import AuthResponse, Scheme


class Signer:
    """Signs as an agent that dialled `host`."""

    def __init__(self, host: str = "coordinator.example") -> None:
        self._key = Ed25519PrivateKey.generate()
        self.host = host
        self.public_key = self._key.public_key().public_bytes_raw()

    def answer(self, nonce: bytes, *, code: str | None = None, scheme: Scheme = Scheme.BOUND) -> AuthResponse:
        signature = self._key.sign(signed_bytes(scheme, self.host, nonce))
        return AuthResponse(
            pubkey=base64.b64encode(self.public_key).decode(),
            signature=base64.b64encode(signature).decode(),
            agent_version="1.0.0",
            enrollment_code=code,
            protocol=3,
            scheme=scheme.value,
        )
