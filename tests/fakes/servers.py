"""Servers on loopback for tests that need a real network: good ones, and ones in trouble."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from provider_agent.transport.accepted import AcceptedSocket, accept
from provider_agent.transport.liveness import PATIENCE, Patience


@asynccontextmanager
async def websocket_server(
    serve: Callable[[AcceptedSocket], Awaitable[None]],
    *,
    tls: ssl.SSLContext | None = None,
    patience: Patience = PATIENCE,
) -> AsyncIterator[str]:
    """Accepts WebSockets as the coordinator does, and lets `serve` talk on each; gives the URL."""

    async def handle(request: web.Request) -> web.StreamResponse:
        accepted = await accept(request, patience)
        await serve(accepted)
        return accepted.response

    app = web.Application()
    app.router.add_get("/v1/agents/connect", handle)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        scheme, host = ("wss", "localhost") if tls else ("ws", "127.0.0.1")
        yield f"{scheme}://{host}:{port}/v1/agents/connect"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def tcp_server(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """Accepts TCP, and says whatever `serve` says; gives the port."""
    done: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        done.add(task)
        try:
            await serve(reader, writer)
        except asyncio.CancelledError:
            return  # by us, below
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in done:
            task.cancel()
        await asyncio.gather(*done, return_exceptions=True)
        await server.wait_closed()
