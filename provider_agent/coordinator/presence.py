"""Which agents are present, away or gone, and what that means for their jobs; knows no wire and no chunk.

1. A session that breaks off leaves its provider away: the jobs stay, until the agent resumes or its
   window has passed. One that ends on purpose leaves it gone at once.
2. An agent resumes by naming the last session that it knows of. What it lists and we still want goes
   on; what it does not list was lost on the way, and is tried again; what we do not want any more is
   unknown to us.
3. An agent that comes without naming that session has been started anew: its older jobs are lost.
4. A session that is over, or was replaced, has no jobs: the newer one has followed it.
"""

from collections.abc import Callable, Iterator

from provider_agent.coordinator import events
from provider_agent.coordinator.alarm import Alarm
from provider_agent.coordinator.events import Event
from provider_agent.coordinator.fleet import Fleet, Provider, Session
from provider_agent.coordinator.jobs import Job
from provider_agent.coordinator.placing import DispatchLimits, Placing
from provider_agent.protocol.frames import LEGACY_PROTOCOL, Resume, Resumed, ResumedJob, ResumeJob

LEAVING_WINDOW_S = 10.0
"""How long an agent is waited for that was leaving already when its connection broke."""

REPLACED = 4002
"""Close code for the older of two connections of one identity."""


class Presence:
    """Lets agents in, and out."""

    def __init__(
        self,
        limits: DispatchLimits,
        fleet: Fleet,
        placing: Placing,
        alarm: Alarm,
        *,
        clock: Callable[[], float],
        on_event: Callable[[Event], None],
    ) -> None:
        self._limits = limits
        self._fleet = fleet
        self._placing = placing
        self._alarm = alarm
        self._clock = clock
        self._on_event = on_event

    # --- coming ---------------------------------------------------------------------------

    def join(self, newer: Provider, resume: Resume | None) -> tuple[Provider, Resumed | None]:
        """As `Dispatcher.join`."""
        provider_id = newer.provider_id
        older = self._fleet.get(provider_id)
        if older is not None and older.session is not None:
            older.session.end(REPLACED, "replaced by a newer connection of this identity")
        if resume is not None and older is not None and self._is_resumable(older, newer, resume):
            return newer, self._resume(older, newer, resume)
        if older is not None:
            newer.remember(older)
            self._on_event(events.AgentLeft(provider_id, older.name))
        self._fleet.add(newer)
        self._on_event(events.AgentJoined(provider_id))
        if older is not None:
            self._placing.lose(older, older.jobs)
        if resume is None:
            return newer, None
        return newer, Resumed(jobs=(), unknown=tuple(listed.job_id for listed in resume.jobs))

    def _is_resumable(self, older: Provider, newer: Provider, resume: Resume) -> bool:
        speaks_of_it = min(older.protocol, newer.protocol) > LEGACY_PROTOCOL
        return self._limits.resume_window_s > 0 and speaks_of_it and older.may_be_named(resume.session_id)

    def _resume(self, older: Provider, newer: Provider, resume: Resume) -> Resumed:
        placing = self._placing
        placing.forget_ended(older)
        newer.follow(older)
        self._fleet.add(newer)
        self._on_event(events.AgentBack(newer.provider_id, newer.name))
        for job_id in newer.jobs:
            placing.jobs[job_id].provider = newer
        resumed: list[ResumedJob] = []
        unknown: list[str] = []
        for listed in resume.jobs:
            job = placing.job_at(newer, listed.job_id)
            if job is not None and _goes_on(job, listed):
                resumed.append(ResumedJob(job_id=job.job_id, have_seq=job.inflow.have_seq))
            else:
                unknown.append(listed.job_id)
        going_on = {each.job_id for each in resumed}
        placing.lose(newer, [job_id for job_id in newer.jobs if job_id not in going_on], is_back=True)
        return Resumed(jobs=tuple(resumed), unknown=tuple(unknown))

    # --- going ----------------------------------------------------------------------------

    def part(self, provider: Provider, session: Session, *, resumable: bool, was_silent: bool) -> None:
        """As `Dispatcher.part`."""
        if provider.session is not session or self._fleet.get(provider.provider_id) is not provider:
            return
        window_s = self._limits.resume_window_s
        if not resumable or window_s <= 0 or provider.protocol <= LEGACY_PROTOCOL:
            self.lose(provider)
            return
        if provider.draining:  # it may have been killed in the middle of it
            window_s = min(window_s, LEAVING_WINDOW_S)
        now_s = self._clock()
        provider.moves_at_s = now_s + (0.0 if was_silent else self._limits.move_after_s)
        provider.gone_at_s = now_s + window_s
        self._fleet.send_away(provider)
        self._on_event(events.AgentAway(provider.provider_id, provider.name))
        self._placing.forget_ended(provider)
        self._alarm.set(min(provider.moves_at_s, provider.gone_at_s))

    def lose(self, provider: Provider) -> None:
        """It is not waited for."""
        if self._fleet.remove(provider):
            self._on_event(events.AgentLeft(provider.provider_id, provider.name))
            self._placing.lose(provider, provider.jobs)

    def expire(self, now_s: float) -> None:
        """Give up those who were away for too long."""
        for provider in [each for each in self._fleet.away.values() if each.gone_at_s <= now_s]:
            self.lose(provider)

    def dues_s(self, now_s: float) -> Iterator[float]:
        """When something becomes of those who are away."""
        for provider in self._fleet.away.values():
            yield from (due_s for due_s in (provider.moves_at_s, provider.gone_at_s) if due_s > now_s)


def _goes_on(job: Job, listed: ResumeJob) -> bool:
    """Whether the agent has this attempt, and of its answer no less than we have."""
    return job.attempt == listed.attempt and job.inflow.have_seq < listed.next_seq
