"""Carries what happened in the coordinator into its metrics and to whoever watches; decides nothing."""

import re
from collections.abc import Callable
from dataclasses import fields

from provider_agent.coordinator.events import (
    AttemptEnded,
    Event,
    HandshakeEnded,
    JobDispatched,
    JobEnded,
    SessionEnded,
)
from provider_agent.telemetry.metrics import CoordinatorMetrics

OnEvent = Callable[[str, dict[str, object]], None]

_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Observer:
    """Takes events: counts them, and names them to `on_event` (`AgentJoined` is `agent_joined`)."""

    def __init__(self, metrics: CoordinatorMetrics, on_event: OnEvent) -> None:
        self._metrics = metrics
        self._on_event = on_event
        self._shapes: dict[type, _Shape] = {}

    def take(self, event: Event) -> None:
        self._count(event)
        shape = self._shapes.get(type(event))
        if shape is None:
            shape = self._shapes[type(event)] = _Shape(type(event))
        self._on_event(shape.name, {name: getattr(event, name) for name in shape.fields})

    def _count(self, event: Event) -> None:
        match event:
            case JobDispatched(attempt=1):  # a later one waited for its agents, not for a slot
                self._metrics.waited("dispatched", event.waited_s)
            case AttemptEnded():
                self._metrics.attempt_ended(
                    code=event.code, input_tokens=event.input_tokens, output_tokens=event.output_tokens
                )
            case JobEnded():
                self._job_ended(event)
            case HandshakeEnded():
                self._metrics.handshake_ended(event.result)
            case SessionEnded():
                self._metrics.session_ended(event.close_code)
            case _:
                pass  # who is present is read from the view of the fleet

    def _job_ended(self, event: JobEnded) -> None:
        if event.attempts == 0:
            self._metrics.waited("cancelled" if event.code == "cancelled" else "refused", event.duration_s)
        self._metrics.request_ended(
            endpoint=event.endpoint,
            status=event.status,
            duration_s=event.duration_s,
            first_byte_s=event.first_byte_s,
            relayed_bytes=event.answer_bytes,
        )


class _Shape:
    """How events of one class are told: each job has three, so this is looked up once."""

    def __init__(self, kind: type) -> None:
        self.name = _WORD_START.sub("_", kind.__name__).lower()
        self.fields = tuple(field.name for field in fields(kind))
