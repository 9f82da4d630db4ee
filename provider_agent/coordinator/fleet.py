"""The providers that are present: their models, their slots, what they hold; plain data, no decisions."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from provider_agent.protocol.frames import (
    PROTOCOL,
    Capabilities,
    Frame,
    Heartbeat,
    ModelOffer,
    RejectedModel,
    UnreadableOffer,
)


class Session(Protocol):
    """How a provider is reached."""

    def post(self, frame: Frame) -> None:
        """Send a frame; never waits, and does nothing once the session is over."""
        ...

    def end(self, code: int, reason: str) -> None:
        """Close the session; never waits. `Dispatcher.disconnect` follows."""
        ...


@dataclass(slots=True)
class Slot:
    """One place at a provider, taken by a job from its dispatch to its outcome.

    Attributes:
        frees_at_s: when it counts as free although no outcome came; set once the job is cancelled.
    """

    model_id: str
    frees_at_s: float | None = None


@dataclass(slots=True, eq=False)
class Provider:
    """One agent in one session: it comes with the session and goes with it.

    Attributes:
        name: what its operator calls it, fit for a header and a log line.
        offers: its models by id, without the rejected ones; empty until it sent capabilities.
        max_jobs: how many jobs it takes at once over all models.
        jobs: the slots that are taken, by job id, in the order of dispatch.
        draining: it is leaving and takes no new jobs.
        full: it refused a job for want of capacity; believed until its next outcome or heartbeat.
        last_chosen: number of its latest dispatch, for taking turns.
        heartbeat: the latest one.
    """

    provider_id: str
    session: Session
    protocol: int = PROTOCOL
    name: str = ""
    offers: dict[str, ModelOffer] = field(default_factory=dict)
    max_jobs: int = 0
    jobs: dict[str, Slot] = field(default_factory=dict)
    draining: bool = False
    full: bool = False
    last_chosen: int = 0
    heartbeat: Heartbeat | None = None

    def __post_init__(self) -> None:
        self.name = self.name or self.provider_id

    def __repr__(self) -> str:
        state = "draining" if self.draining else "full" if self.full else "present"
        slots = f"{len(self.jobs)} of {self.max_jobs} slots"
        return f"<Provider {self.name}, {state}, {slots}, {sorted(self.offers)}>"

    def take_capabilities(self, capabilities: Capabilities) -> tuple[RejectedModel, ...]:
        """Replace what this provider offers; returns the entries that are not used, and why."""
        offers: dict[str, ModelOffer] = {}
        rejected: list[RejectedModel] = []
        for offer in capabilities.models:
            if isinstance(offer, UnreadableOffer):
                rejected.append(RejectedModel(model_id=offer.model_id, reason=offer.reason))
            elif offer.model_id in offers:
                rejected.append(RejectedModel(model_id=offer.model_id, reason="this model is listed twice"))
            else:
                offers[offer.model_id] = offer
        self.offers = offers
        self.max_jobs = capabilities.limits.max_concurrent_total
        self.name = plain_text(capabilities.metadata.name) or self.provider_id
        return tuple(rejected)

    def take_heartbeat(self, heartbeat: Heartbeat) -> None:
        self.heartbeat = heartbeat
        self.full = False
        if heartbeat.draining is not None:
            self.draining = heartbeat.draining

    @property
    def free_slots(self) -> int:
        """Jobs that it could take now, whatever their model."""
        return 0 if self.full or self.draining else max(0, self.max_jobs - len(self.jobs))

    def free_slots_for(self, model_id: str) -> int:
        """Jobs of this model that it could take now."""
        offer = self.offers.get(model_id)
        if offer is None or not self.free_slots:
            return 0
        taken = sum(slot.model_id == model_id for slot in self.jobs.values())
        return max(0, min(self.free_slots, offer.max_concurrent - taken))


class Fleet:
    """All providers that are present, one for each identity."""

    def __init__(self) -> None:
        self._providers: dict[str, Provider] = {}

    @property
    def providers(self) -> tuple[Provider, ...]:
        return tuple(self._providers.values())

    @property
    def models(self) -> dict[str, tuple[ModelOffer, ...]]:
        """Every model that somebody offers, sorted by id, with all its offers."""
        offers: dict[str, tuple[ModelOffer, ...]] = {}
        for provider in self._providers.values():
            for model_id, offer in provider.offers.items():
                offers[model_id] = (*offers.get(model_id, ()), offer)
        return dict(sorted(offers.items()))

    def get(self, provider_id: str) -> Provider | None:
        return self._providers.get(provider_id)

    def add(self, provider: Provider) -> None:
        self._providers[provider.provider_id] = provider

    def remove(self, provider: Provider) -> bool:
        """Whether it was present; a newer session of the same identity stays."""
        if self._providers.get(provider.provider_id) is not provider:
            return False
        del self._providers[provider.provider_id]
        return True


def plain_text(text: str, longest: int = 64) -> str:
    """What a peer calls itself, fit for a header and a terminal: printable ASCII, and not too much of it."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:longest]).strip()


def endpoints_of(offers: Iterable[ModelOffer]) -> tuple[str, ...]:
    """Every endpoint that one of these offers, sorted."""
    return tuple(sorted({endpoint for offer in offers for endpoint in offer.endpoints}))
