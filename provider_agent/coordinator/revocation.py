"""Ends the sessions of agents that were revoked while they were connected; knows neither sockets nor SQL."""

import asyncio
from collections.abc import Awaitable, Callable

from provider_agent.coordinator.store.base import Store, StoreError
from provider_agent.telemetry.logs import get_logger

CHECK_EVERY_S = 2.0
CLOSE_CODE = 4001

EndSession = Callable[[str, int, str], bool]
"""Ends the session of a provider id with a close code and a reason; False when it has none."""

_log = get_logger(__name__)


async def expel_revoked(
    store: Store, end_session: EndSession, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Look for revoked agents every `CHECK_EVERY_S`, for ever; a store that fails is asked again."""
    while True:
        await sleep(CHECK_EVERY_S)
        try:
            revoked = await store.revoked_provider_ids()
        except StoreError as error:
            _log.warning("revocations_unknown", reason=str(error))
            continue
        for provider_id in revoked:
            if end_session(provider_id, CLOSE_CODE, "revoked"):
                _log.info("agent_expelled", provider_id=provider_id)
