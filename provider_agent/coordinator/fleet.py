"""The providers, present or away: their models, their slots, what they hold; plain data, no decisions."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from provider_agent.coordinator.departed import Departed
from provider_agent.protocol.features import in_common
from provider_agent.protocol.frames import (
    PROTOCOL,
    Capabilities,
    Frame,
    Heartbeat,
    ModelOffer,
    RejectedModel,
    UnreadableOffer,
)

STREAM_IDS = 2**32
"""How many stream ids there are; then they begin anew."""

MOST_UNHEARD = 64
"""How many welcomes in a row may get lost on the way before an agent counts as started anew."""


class Session(Protocol):
    """How a provider is reached."""

    @property
    def session_id(self) -> str:
        """What the agent was told to name when it resumes."""
        ...

    def post(self, frame: Frame) -> None:
        """Send a frame; never waits, and does nothing once the session is over."""
        ...

    def end(self, code: int, reason: str) -> None:
        """Close the session; never waits. `Dispatcher.part` follows."""
        ...


@dataclass(slots=True)
class Slot:
    """One place at a provider, taken by a job from its dispatch to its outcome.

    Attributes:
        stream_id: what the job's binary chunks are marked with.
        frees_at_s: when it counts as free although no outcome came; set once no more of it is wanted.
    """

    model_id: str
    stream_id: int = 0
    frees_at_s: float | None = None


@dataclass(slots=True, eq=False)
class Provider:
    """One agent in one session, and after that for as long as its return is waited for.

    A later session of the same agent is a provider of its own, which follows this one: so whatever
    the older session still says comes from somebody who has no jobs.

    Attributes:
        session: None while the agent is away.
        session_id: of that session, also when it is over.
        unheard_ids: earlier sessions that the agent names instead if our last welcome never reached it.
        name: what its operator calls it, fit for a header and a log line; else the next, else its id.
        given_name: what our operator calls it, who has made its enrolment code.
        offers: its models by id, without the rejected ones; those of its last session until it says anew.
        serves: it said in this session what it serves: jobs may be sent.
        max_jobs: how many jobs it takes at once over all models.
        max_job_bytes: the largest request that it takes; None when it did not say.
        jobs: the slots that are taken, by job id, in the order of dispatch.
        streams: the same jobs, by stream id.
        draining: it is leaving and takes no new jobs.
        full_for: models for whose jobs it had no room; believed until one of its jobs ends, or it says more.
        last_chosen: number of its latest dispatch, for taking turns.
        heartbeat: the latest one.
        moves_at_s: while it is away, when those of its jobs may move whose clients have seen nothing.
        gone_at_s: while it is away, when it is not waited for any longer.
    """

    provider_id: str
    session: Session | None
    protocol: int = PROTOCOL
    session_id: str = ""
    unheard_ids: tuple[str, ...] = ()
    name: str = ""
    given_name: str = ""
    offers: dict[str, ModelOffer] = field(default_factory=dict)
    serves: bool = False
    max_jobs: int = 0
    max_job_bytes: int | None = None
    jobs: dict[str, Slot] = field(default_factory=dict)
    streams: dict[int, str] = field(default_factory=dict)
    next_stream_id: int = 0
    draining: bool = False
    full_for: set[str] = field(default_factory=set)
    last_chosen: int = 0
    heartbeat: Heartbeat | None = None
    moves_at_s: float = 0.0
    gone_at_s: float = 0.0

    def __post_init__(self) -> None:
        self.name = self.name or self.given_name or self.provider_id
        if self.session is not None:
            self.session_id = self.session.session_id

    def __repr__(self) -> str:
        present = "draining" if self.draining else "full" if self.full_for else "present"
        state = "away" if self.session is None else present
        slots = f"{len(self.jobs)} of {self.max_jobs} slots"
        return f"<Provider {self.name}, {state}, {slots}, {sorted(self.offers)}>"

    # --- slots ----------------------------------------------------------------------------

    def seat(self, job_id: str, model_id: str) -> Slot:
        """Take a slot, with the next stream id: unique in the session, and in those that it resumes."""
        slot = self.jobs[job_id] = Slot(model_id, self.next_stream_id)
        self.streams[slot.stream_id] = job_id
        self.next_stream_id = (self.next_stream_id + 1) % STREAM_IDS
        return slot

    def free(self, job_id: str) -> bool:
        """Free the slot of a job; False when it has none."""
        slot = self.jobs.pop(job_id, None)
        if slot is None:
            return False
        self.streams.pop(slot.stream_id, None)
        return True

    def follow(self, older: "Provider") -> None:
        """Take over all that an earlier session of the same agent had; nothing is left there."""
        self.remember(older)
        self.jobs, older.jobs = older.jobs, {}
        self.streams, older.streams = older.streams, {}
        self.next_stream_id = older.next_stream_id
        before = () if older.serves else older.unheard_ids
        self.unheard_ids = (*before, older.session_id)[-MOST_UNHEARD:]

    def may_be_named(self, session_id: str) -> bool:
        """Whether an agent that resumes this session means this one.

        A connection may break with our welcome under way: the agent then knows the session before it. What
        it serves it says only to a welcome that it has read.
        """
        return session_id == self.session_id or (not self.serves and session_id in self.unheard_ids)

    def remember(self, older: "Provider") -> None:
        """What it offered earlier stands until it says anew: clients need not hear of a short absence."""
        self.name, self.offers = older.name, older.offers
        self.max_jobs, self.max_job_bytes = older.max_jobs, older.max_job_bytes
        self.last_chosen = older.last_chosen

    # --- what it says ---------------------------------------------------------------------

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
        self.serves = True
        self.full_for.clear()
        self.max_jobs = capabilities.limits.max_concurrent_total
        self.max_job_bytes = capabilities.limits.max_job_bytes
        self.name = plain_text(capabilities.metadata.name) or self.given_name or self.provider_id
        return tuple(rejected)

    def take_heartbeat(self, heartbeat: Heartbeat) -> None:
        self.heartbeat = heartbeat
        self.full_for.clear()
        if heartbeat.draining is not None:
            self.draining = heartbeat.draining

    @property
    def free_slots(self) -> int:
        """Jobs that it could take now, whatever their model."""
        if self.draining or not self.serves or self.session is None:
            return 0
        return max(0, self.max_jobs - len(self.jobs))

    def free_slots_for(self, model_id: str) -> int:
        """Jobs of this model that it could take now."""
        offer, free = self.offers.get(model_id), self.free_slots
        if offer is None or not free or model_id in self.full_for:
            return 0
        if offer.max_concurrent >= self.max_jobs:  # then it is never the narrower limit
            return free
        taken = sum(slot.model_id == model_id for slot in self.jobs.values())
        return max(0, min(free, offer.max_concurrent - taken))


class Fleet:
    """All providers that are present or may come back, one for each identity.

    Attributes:
        away: those of them that may come back, by id.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, young_s: float = 0.0) -> None:
        """For its first `young_s`, a model that nobody has offered yet is waited for."""
        self._providers: dict[str, Provider] = {}
        self._having: dict[str, dict[str, Provider]] = {}  # by model: its providers
        self._departed = Departed(clock, young_s=young_s)
        self.away: dict[str, Provider] = {}

    @property
    def providers(self) -> tuple[Provider, ...]:
        return tuple(self._providers.values())

    @property
    def models(self) -> Mapping[str, tuple[ModelOffer, ...]]:
        """Every model that somebody offers, sorted by id, with all its offers."""
        return {
            model_id: tuple(provider.offers[model_id] for provider in self._having[model_id].values())
            for model_id in sorted(self._having)
        }

    def get(self, provider_id: str) -> Provider | None:
        return self._providers.get(provider_id)

    def having(self, model_id: str) -> Iterable[Provider]:
        """Who offers this model."""
        found = self._having.get(model_id)
        return () if found is None else found.values()

    def back_within_s(self, model_id: str) -> float | None:
        """How long it is worth waiting for a model that nobody offers now; as `Departed.back_within_s`."""
        return self._departed.back_within_s(model_id)

    def add(self, provider: Provider) -> None:
        """Let a provider in; it takes the place of the one with the same id."""
        older = self._providers.pop(provider.provider_id, None)
        self.away.pop(provider.provider_id, None)
        gone = [] if older is None else self._unlist(older)
        self._providers[provider.provider_id] = provider
        self._list(provider)
        self._miss(gone)

    def remove(self, provider: Provider) -> bool:
        """Whether it was here; a newer one of the same identity stays."""
        if self._providers.get(provider.provider_id) is not provider:
            return False
        self.away.pop(provider.provider_id, None)
        del self._providers[provider.provider_id]
        self._miss(self._unlist(provider))
        return True

    def send_away(self, provider: Provider) -> None:
        """Its session is over, and it may come back."""
        provider.session = None
        self.away[provider.provider_id] = provider

    def take_capabilities(self, provider: Provider, capabilities: Capabilities) -> tuple[RejectedModel, ...]:
        """As `Provider.take_capabilities`, for one that is here."""
        gone = self._unlist(provider)
        rejected = provider.take_capabilities(capabilities)
        self._list(provider)
        self._miss(gone)
        return rejected

    def _list(self, provider: Provider) -> None:
        for model_id in provider.offers:
            self._having.setdefault(model_id, {})[provider.provider_id] = provider
        self._departed.forget(provider.offers)

    def _unlist(self, provider: Provider) -> list[str]:
        """Take its models off the lists; returns those that nobody has now."""
        gone: list[str] = []
        for model_id in provider.offers:
            having = self._having[model_id]
            del having[provider.provider_id]
            if not having:
                del self._having[model_id]
                gone.append(model_id)
        return gone

    def _miss(self, gone: Iterable[str]) -> None:
        """Those of them that are not back in the same step have left."""
        self._departed.leave(model_id for model_id in gone if model_id not in self._having)


def plain_text(text: str, longest: int = 64) -> str:
    """What a peer calls itself, fit for a header and a terminal: printable ASCII, and not too much of it."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:longest]).strip()


def features_of(offers: Iterable[ModelOffer]) -> tuple[str, ...] | None:
    """What all of these can do beside text, as far as they tell."""
    return in_common(offer.features for offer in offers)


def endpoints_of(offers: Iterable[ModelOffer]) -> tuple[str, ...]:
    """Every endpoint that one of these offers, sorted."""
    return tuple(sorted({endpoint for offer in offers for endpoint in offer.endpoints}))
