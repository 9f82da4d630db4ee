"""The baseline: a coordinator as most people would write it, with aiohttp, json and a queue per job.

It says the handshake and passes answers on, and does nothing else: no keys, no acknowledgements, no windows,
no cancelling, no choice among agents.
"""

import asyncio
import base64
import json
import secrets

from aiohttp import WSMsgType, web

agents: list[web.WebSocketResponse] = []
queues: dict[str, asyncio.Queue] = {}


async def serve_agent(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    nonce = base64.b64encode(secrets.token_bytes(32)).decode()
    await socket.send_json(
        {"type": "auth_challenge", "nonce": nonce, "protocol": 3, "schemes": ["ed25519-bound"]}
    )
    async for message in socket:
        if message.type != WSMsgType.TEXT:
            continue
        frame = json.loads(message.data)
        kind = frame["type"]
        if kind == "auth_response":
            await socket.send_json({"type": "auth_ok", "provider_id": secrets.token_hex(8), "protocol": 3})
        elif kind == "capabilities":
            await socket.send_json({"type": "capabilities_ok", "revision": frame.get("revision", 0)})
            agents.append(socket)
            print(json.dumps({"event": "joined"}), flush=True)
        elif kind in ("job_chunk", "job_done", "job_error"):
            queue = queues.get(frame["job_id"])
            if queue is not None:
                await queue.put(frame)
    if socket in agents:
        agents.remove(socket)
    return socket


async def serve_client(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    job_id = secrets.token_hex(16)
    queue = queues[job_id] = asyncio.Queue()
    job = {"type": "job", "job_id": job_id, "model_id": body["model"], "request": body}
    await agents[0].send_json(job)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    try:
        while (frame := await queue.get())["type"] == "job_chunk":
            await response.write(base64.b64decode(frame["data"]))
        await response.write_eof()
    finally:
        del queues[job_id]
    return response


async def main() -> None:
    app = web.Application()
    app.router.add_get("/v1/agents/connect", serve_agent)
    app.router.add_post("/v1/chat/completions", serve_client)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    print(json.dumps({"event": "listening", "port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
