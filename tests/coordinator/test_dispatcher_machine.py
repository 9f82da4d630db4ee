"""Random sequences of everything that can happen to a dispatcher: each job ends once, no slot is lost."""

import asyncio
import itertools
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from provider_agent.coordinator.answer import Answer, Done, Failed
from provider_agent.coordinator.dispatcher import Dispatcher, DispatchLimits
from provider_agent.coordinator.events import AttemptEnded, Event, JobDispatched, JobEnded
from provider_agent.coordinator.jobs import JobRequest, JobState
from provider_agent.coordinator.scheduler import WAIT, choose
from provider_agent.protocol.errors import RULES, BadFrame
from provider_agent.protocol.frames import Job, JobCancel
from tests.fakes.agents import CHAT, FakeAgent, offer
from tests.fakes.clocks import ManualClock

SOME_MODELS = st.sampled_from([{"m"}, {"m"}, {"m"}, {"m", "n"}, {"n"}, set()])
ACTIONS = ("start", "chunk", "chunk", "chunk", "read", "done", "fail", "fail", "bad")
PASSING = ("out_of_capacity", "internal", "backend_unreachable", "draining", "stream_error")
CODES = [*(code.value for code in RULES), *PASSING, *PASSING]
LIMITS = DispatchLimits(queue_max_wait_s=30, queue_max_jobs=3, max_attempts=3, answer_bytes=64)


class Agent(FakeAgent):
    """Knows which jobs it runs, as a correct agent does, and marks each byte with where it comes from."""

    def __init__(self, dispatcher: Dispatcher, provider_id: str, slots: int) -> None:
        self.read = 0
        self.running: dict[str, int] = {}
        self.sent: dict[tuple[str, int], int] = {}
        super().__init__(dispatcher, provider_id, slots=slots)

    def work(self) -> None:
        """Read what has come: a job begins, and a cancel ends one."""
        frames, self.read = self.session.posted[self.read :], len(self.session.posted)
        for frame in frames:
            if isinstance(frame, Job):
                assert frame.job_id not in self.running, "dispatched twice to one agent"
                self.running[frame.job_id] = frame.attempt
            elif isinstance(frame, JobCancel) and frame.job_id in self.running:
                del self.running[frame.job_id]
                self.fail(frame.job_id, "cancelled")

    def say_more(self, job_id: str) -> None:
        key = job_id, self.running[job_id]
        number = self.sent.get(key, 0)
        self.sent[key] = number + 1
        self.chunk(job_id, f"{self.running[job_id]}.{number};".encode())


@dataclass
class Client:
    """Reads its answer whenever it is its turn."""

    answer: Answer
    leave: object
    seen: bytes = b""
    ends: list[Done | Failed] = field(default_factory=list)


class DispatcherMachine(RuleBasedStateMachine):
    """Agents join, fail and leave; clients come, read and leave; time passes."""

    @initialize(first_slots=st.integers(1, 3))
    def begin(self, first_slots: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.events: list[Event] = []
        self.dispatcher = Dispatcher(
            LIMITS,
            clock=self.clock,
            on_event=self.events.append,
            new_job_id=(f"j{i}" for i in itertools.count()).__next__,
        )
        self.agents: list[Agent] = []
        self.clients: dict[str, Client] = {}
        self.join("a", first_slots, {"m"})
        self.join("b", 1, {"m", "n"})

    # --- agents ---------------------------------------------------------------------------

    @rule(provider_id=st.sampled_from("abc"), slots=st.integers(0, 3), models=SOME_MODELS)
    def join(self, provider_id: str, slots: int, models: set[str]) -> None:
        self.agents = [agent for agent in self.agents if agent.provider.provider_id != provider_id]
        agent = Agent(self.dispatcher, provider_id, slots)
        agent.offer(*(offer(model, max_concurrent=2) for model in models), slots=slots)
        self.agents.append(agent)

    def _agent(self, data: st.DataObject) -> Agent:
        return data.draw(st.sampled_from(self.agents))

    @precondition(lambda self: self.agents)
    @rule(data=st.data())
    def depart(self, data: st.DataObject) -> None:
        agent = self._agent(data)
        self.agents.remove(agent)
        agent.leave()

    @precondition(lambda self: self.agents)
    @rule(data=st.data(), draining=st.booleans())
    def heartbeat(self, data: st.DataObject, draining: bool) -> None:
        self._agent(data).heartbeat(draining=draining)

    @precondition(lambda self: self.agents)
    @rule(data=st.data(), slots=st.integers(0, 3), models=SOME_MODELS)
    def change(self, data: st.DataObject, slots: int, models: set[str]) -> None:
        self._agent(data).offer(*(offer(model, max_concurrent=2) for model in models), slots=slots)

    @rule(data=st.data(), actions=st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=4))
    def work(self, data: st.DataObject, actions: list[str]) -> None:
        """Some agents read what they were sent, and get on with it."""
        for action in actions:
            for agent in self.agents:
                agent.work()
            running = [(agent, job_id) for agent in self.agents for job_id in sorted(agent.running)]
            if running:
                self._act(data, action, *data.draw(st.sampled_from(running)))

    def _act(self, data: st.DataObject, action: str, agent: Agent, job_id: str) -> None:
        match action:
            case "start":
                agent.start(job_id)
            case "chunk":
                agent.say_more(job_id)
            case "read":
                self._read(self.clients[job_id])
            case "done":
                del agent.running[job_id]
                agent.done(job_id)
            case "fail":
                del agent.running[job_id]
                agent.fail(job_id, data.draw(st.sampled_from(CODES)))
            case _:
                bad = BadFrame("is bad", frame_type="job_chunk", job_id=job_id)
                self.dispatcher.deliver_bad(agent.provider, bad)

    @precondition(lambda self: self.agents and self.clients)
    @rule(data=st.data(), what=st.sampled_from(["start", "done", "fail"]))
    def speak_of_a_job_that_it_does_not_have(self, data: st.DataObject, what: str) -> None:
        agent = self._agent(data)
        job_id = data.draw(st.sampled_from(sorted(self.clients)))
        if job_id in agent.provider.jobs:
            return
        late = self.dispatcher.late_frames
        match what:
            case "start":
                agent.start(job_id)
            case "done":
                agent.done(job_id)
            case _:
                agent.fail(job_id, "internal")
        assert self.dispatcher.late_frames == late + 1

    # --- clients --------------------------------------------------------------------------

    @rule(model_ids=st.lists(st.sampled_from("mmn"), min_size=1, max_size=3))
    def ask(self, model_ids: list[str]) -> None:
        for model_id in model_ids:
            self._ask(model_id)

    def _ask(self, model_id: str) -> None:
        run = self.dispatcher.run(JobRequest(model_id, CHAT, b"{}", stream=True))
        answer = run.__enter__()
        self.clients[answer.job_id] = Client(answer, lambda: run.__exit__(None, None, None))

    def _client(self, data: st.DataObject) -> Client:
        return self.clients[data.draw(st.sampled_from(sorted(self.clients)))]

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        self._read(self._client(data))

    def _read(self, client: Client) -> None:
        event = self.loop.run_until_complete(read_now(client.answer))
        if isinstance(event, bytes):
            assert not client.ends, "bytes after the end"
            client.seen += event
        elif event is not None:
            client.ends.append(event)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self._client(data).leave()  # type: ignore[operator]

    @rule(seconds=st.sampled_from([1, 10, 30]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.dispatcher.expire()

    # --- what holds at all times ----------------------------------------------------------

    @invariant()
    def a_client_sees_bytes_of_one_attempt_each_once_and_in_order(self) -> None:
        for client in self.clients.values():
            pieces = [piece.split(b".") for piece in client.seen.split(b";")[:-1]]
            assert len({attempt for attempt, _ in pieces}) <= 1
            assert [str(i).encode() for i in range(len(pieces))] == [number for _, number in pieces]

    @invariant()
    def a_job_ends_once(self) -> None:
        ended = [event.job_id for event in self.events if isinstance(event, JobEnded)]
        assert len(ended) == len(set(ended))
        assert set(ended) | set(self.dispatcher._jobs) == set(self.clients)
        assert not set(ended) & set(self.dispatcher._jobs)

    @invariant()
    def every_slot_is_taken_once_and_freed_once(self) -> None:
        dispatched = sum(isinstance(event, JobDispatched) for event in self.events)
        ended = sum(isinstance(event, AttemptEnded) for event in self.events)
        assert dispatched - ended == self.dispatcher.view().running_jobs

    @invariant()
    def a_job_is_in_one_place(self) -> None:
        waiting = [job.job_id for job in self.dispatcher._waiting]
        assert waiting == sorted(waiting, key=lambda job_id: self.dispatcher._jobs[job_id].arrival)
        for job_id, job in self.dispatcher._jobs.items():
            assert (job.state is JobState.QUEUED) == (job_id in waiting) == (job.provider is None)
            assert job.provider is None or job_id in job.provider.jobs
            assert job.provider is None or job.provider in self.dispatcher.fleet.providers

    @invariant()
    def nobody_waits_who_could_be_served(self) -> None:
        for job in self.dispatcher._waiting:
            choice = choose(job.request.model_id, CHAT, self.dispatcher.fleet.providers, job.excluded)
            assert choice is WAIT or not hasattr(choice, "provider_id")

    @invariant()
    def nobody_has_more_jobs_than_slots_at_dispatch(self) -> None:
        for agent in self.agents:
            assert agent.provider.free_slots >= 0

    def teardown(self) -> None:
        """When everybody has gone, nothing is left, and every client that stayed knows how it ended."""
        for agent in tuple(self.agents):
            agent.leave()
        for _ in range(LIMITS.max_attempts + 1):
            self.clock.advance(30)
            self.dispatcher.expire()
        for client in self.clients.values():
            self._read(client)
            self._read(client)
            assert client.ends
            client.leave()  # type: ignore[operator]
        assert not self.dispatcher._jobs
        assert not self.dispatcher._waiting
        self.a_job_ends_once()
        self.every_slot_is_taken_once_and_freed_once()
        self.loop.close()


async def read_now(answer: Answer) -> bytes | Done | Failed | None:
    try:
        async with asyncio.timeout(0):
            return await answer.read()
    except TimeoutError:
        return None


TestDispatcherMachine = DispatcherMachine.TestCase
TestDispatcherMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
