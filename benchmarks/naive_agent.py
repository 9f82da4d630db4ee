"""The baseline: an agent as most people would write it, with httpx, websockets, json and a task per job.

It says the handshake and serves jobs, and does nothing else: no limits, no usage, no merging, no checks.
"""

import argparse
import asyncio
import base64
import json
import time

import httpx
import websockets
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


async def serve(
    job: dict, client: httpx.AsyncClient, engine: str, socket: websockets.ClientConnection
) -> None:
    job_id, started, seq = job["job_id"], time.monotonic(), 0
    path = job.get("endpoint", "/v1/chat/completions")
    try:
        async with client.stream("POST", engine + path, json=job["request"]) as response:
            response.raise_for_status()
            async for data in response.aiter_bytes():
                encoded = base64.b64encode(data).decode()
                chunk = {"type": "job_chunk", "job_id": job_id, "seq": seq, "data": encoded}
                await socket.send(json.dumps(chunk))
                seq += 1
    except httpx.HTTPError as error:
        failed = {"type": "job_error", "job_id": job_id, "error_code": "internal", "message": str(error)}
        await socket.send(json.dumps(failed))
        return
    duration_ms = int((time.monotonic() - started) * 1000)
    tokens = {"input": None, "output": None}
    done = {"type": "job_done", "job_id": job_id, "tokens": tokens, "duration_ms": duration_ms, "seq": seq}
    await socket.send(json.dumps(done))


def sign_in(challenge: dict) -> str:
    key = Ed25519PrivateKey.generate()
    message = b"provider-agent/3\x00127.0.0.1\x00" + base64.b64decode(challenge["nonce"])
    return json.dumps(
        {
            "type": "auth_response",
            "pubkey": base64.b64encode(key.public_key().public_bytes_raw()).decode(),
            "signature": base64.b64encode(key.sign(message)).decode(),
            "agent_version": "naive",
            "protocol": 3,
            "scheme": "ed25519-bound",
        }
    )


async def main(coordinator: str, engine: str) -> None:
    limits = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(timeout=600, limits=limits) as client,
        websockets.connect(coordinator) as socket,
    ):
        await socket.send(sign_in(json.loads(await socket.recv())))
        assert json.loads(await socket.recv())["type"] == "auth_ok"
        listed = (await client.get(engine + "/v1/models")).json()["data"]
        models = [
            {
                "model_id": m["id"],
                "backend": "any",
                "max_concurrent": 128,
                "input_per_1m": 0,
                "output_per_1m": 0,
            }
            for m in listed
        ]
        capabilities = {
            "type": "capabilities",
            "models": models,
            "limits": {"max_concurrent_total": 128},
            "metadata": {"agent_version": "naive"},
        }
        await socket.send(json.dumps(capabilities))
        tasks = set()
        async for message in socket:
            frame = json.loads(message)
            if frame["type"] == "job":
                task = asyncio.create_task(serve(frame, client, engine, socket))
                tasks.add(task)
                task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coordinator", required=True)
    parser.add_argument("--engine", required=True)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.coordinator, arguments.engine))
