"""Random sequences of all that can happen to a dispatcher: each job ends once, no byte and no slot is lost.

The agents are as a correct agent is: they keep what was not acknowledged, and send it again over the next
connection. Frames are on their way for a while, in both directions; connections break, or only seem to hold.
"""

import asyncio
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from provider_agent.coordinator.answer import Answer, Done, Failed
from provider_agent.coordinator.dispatcher import Dispatcher, DispatchLimits
from provider_agent.coordinator.events import AttemptEnded, Event, JobDispatched, JobEnded
from provider_agent.coordinator.fleet import Provider
from provider_agent.coordinator.jobs import JobRequest, JobState
from provider_agent.coordinator.scheduler import choose
from provider_agent.protocol.errors import RULES, BadFrame, ErrorCode
from provider_agent.protocol.frames import (
    PROTOCOL,
    BinaryChunk,
    Frame,
    Heartbeat,
    Job,
    JobAck,
    JobCancel,
    JobChunk,
    JobDone,
    JobError,
    JobStarted,
    Outcome,
    Resume,
    Resumed,
    ResumeJob,
    Tokens,
)
from provider_agent.protocol.window import SendWindow
from tests.fakes.agents import CHAT, RecordingSession, capabilities, offer
from tests.fakes.clocks import ManualClock

MODELS: tuple[set[str], ...] = ({"m"}, {"m"}, {"m"}, {"m", "n"}, {"n"}, set())
PASSING = ("out_of_capacity", "internal", "backend_unreachable", "draining", "stream_error")
CODES = [code.value for code in RULES if code is not ErrorCode.UNKNOWN_JOB] + [*PASSING, *PASSING]
MOST_ROUNDS = 50
NO_TRIES = ("out_of_capacity", "duplicate_job", "draining")
LIMITS = DispatchLimits(
    queue_max_wait_s=30,
    queue_max_jobs=3,
    max_attempts=3,
    answer_bytes=64,
    window_bytes=16,
    resume_window_s=60,
    move_after_s=2,
    young_s=5,
)
ACTIONS = ("start", "say", "say", "say", "send", "send", "deliver", "deliver", "read", "done", "fail", "bad")


WAYS_BACK = ("resume", "resume", "resume", "resume", "fresh", "wrong")


@dataclass(frozen=True)
class Stretch:
    """Of one answer: pieces made, whether they leave, how many chunks arrive, whether its client reads."""

    pieces: int
    leaving: bool
    arriving: int
    reads: bool
    binary: bool


STRETCHES = st.lists(
    st.builds(
        Stretch,
        pieces=st.integers(1, 6),
        leaving=st.sampled_from([True, True, False]),
        arriving=st.integers(0, 5),
        reads=st.sampled_from([True, True, False]),
        binary=st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


class Connection(RecordingSession):
    """One connection of an agent, with what is on its way in both directions.

    Attributes:
        outbox: what the agent has sent and the coordinator has not read.
        is_known: the coordinator has not noticed that it is over.
    """

    def __init__(self, session_id: str, check: Callable[[Frame], None]) -> None:
        super().__init__(session_id)
        self._check = check
        self._read = 0
        self.outbox: deque[Frame] = deque()
        self.is_known = True

    def post(self, frame: Frame) -> None:
        self._check(frame)
        super().post(frame)

    def hear(self) -> list[Frame]:
        frames, self._read = self.posted[self._read :], len(self.posted)
        return frames


@dataclass
class Lane:
    """One job at its agent."""

    attempt: int
    stream_id: int
    window: SendWindow
    pieces: int = 0
    outcome: Outcome | None = None
    has_left: bool = False  # the outcome has


class Agent:
    """An agent's process: its jobs outlive its connections."""

    def __init__(self, dispatcher: Dispatcher, provider_id: str, check: Callable[[Frame], None]) -> None:
        self.provider_id = provider_id
        self.lanes: dict[str, Lane] = {}
        self.older: list[Connection] = []  # half open: the coordinator may still read what they hold
        self.produced: Counter[tuple[str, int]] = Counter()
        self._dispatcher = dispatcher
        self._check = check
        self._session_ids = (f"{provider_id}{i}" for i in itertools.count())
        self.connection: Connection | None = None
        self.last_id = "none"
        self.providers: dict[str, Provider] = {}

    # --- connections ----------------------------------------------------------------------

    def connect(self, how: str, models: Iterable[str], slots: int) -> None:
        """Dial, and `resume`; or as one that was started anew; or naming a session that nobody knows."""
        last = self.connection.session_id if self.connection is not None else self.last_id
        if self.connection is not None:
            self.older.append(self.connection)
        resume = None
        if how == "fresh":
            self.lanes.clear()
        else:
            session_id = last if how == "resume" else "of somebody else"
            resume = Resume(session_id=session_id, jobs=tuple(self._listed()))
        connection = self.connection = Connection(next(self._session_ids), self._check)
        self.last_id = connection.session_id
        provider, resumed = self._dispatcher.join(self.provider_id, connection, PROTOCOL, resume)
        self.providers[connection.session_id] = provider
        assert (resumed is None) == (resume is None)
        if resumed is not None:
            self._take_resumed(resumed)
        self.offer(models, slots)

    def _listed(self) -> Iterable[ResumeJob]:
        for job_id, lane in self.lanes.items():
            yield ResumeJob(job_id=job_id, attempt=lane.attempt, next_seq=lane.window.next_seq)

    def _take_resumed(self, resumed: Resumed) -> None:
        have = {job.job_id: job.have_seq for job in resumed.jobs}
        assert have.keys() | set(resumed.unknown) == self.lanes.keys()
        assert not have.keys() & set(resumed.unknown)
        for job_id in resumed.unknown:
            del self.lanes[job_id]
        for job_id, have_seq in have.items():
            self.lanes[job_id].window.rewind(have_seq)
            self.lanes[job_id].has_left = False

    def drop(self, *, is_noticed: bool, was_silent: bool) -> None:
        """Lose the connection, or one side of it only."""
        connection, self.connection = self.connection, None
        assert connection is not None
        if is_noticed:
            self.part(connection, was_silent=was_silent)
        else:
            self.older.append(connection)

    def part(self, connection: Connection, *, was_silent: bool = False, resumable: bool = True) -> None:
        """The coordinator learns that it is over."""
        connection.is_known = False
        self._dispatcher.part(
            self.providers[connection.session_id],
            connection,
            resumable=resumable,
            was_silent=was_silent,
        )

    def quit(self) -> None:
        """Leave on purpose."""
        assert self.connection is not None
        connection, self.connection = self.connection, None
        self.lanes.clear()
        self.part(connection, resumable=False)

    # --- what it says ---------------------------------------------------------------------

    def offer(self, models: Iterable[str], slots: int) -> None:
        self.say(capabilities(*(offer(model, max_concurrent=2) for model in models), slots=slots))

    def say(self, frame: Frame) -> None:
        assert self.connection is not None
        self.connection.outbox.append(frame)

    def deliver(self, connection: Connection, count: int = 1000) -> None:
        """Let what it has sent arrive."""
        for _ in range(min(count, len(connection.outbox))):
            self._dispatcher.deliver(self.providers[connection.session_id], connection.outbox.popleft())

    # --- what it does ---------------------------------------------------------------------

    def work(self) -> None:
        """Read what has come."""
        for frame in self.connection.hear() if self.connection is not None else ():
            if isinstance(frame, Job):
                assert frame.job_id not in self.lanes, "dispatched twice to one agent"
                assert frame.stream_id is not None
                window = SendWindow(frame.window_bytes)
                self.lanes[frame.job_id] = Lane(frame.attempt, frame.stream_id, window)
            elif isinstance(frame, JobCancel) and frame.job_id in self.lanes:
                self._take_cancel(frame.job_id)
            elif isinstance(frame, JobAck) and frame.job_id in self.lanes:
                self._take_ack(frame)

    def _take_cancel(self, job_id: str) -> None:
        """Nothing of it leaves any more but its outcome, which need not wait for acks then."""
        lane = self.lanes[job_id]
        if not lane.has_left:
            lane.window.drop()
            self.finish(job_id, "cancelled")

    def _take_ack(self, ack: JobAck) -> None:
        lane = self.lanes[ack.job_id]
        if lane.outcome is not None and lane.has_left and ack.seq == lane.outcome.seq:
            del self.lanes[ack.job_id]
        else:
            lane.window.ack(ack.seq)  # which raises if it cannot be

    def start(self, job_id: str) -> None:
        started = JobStarted(
            job_id=job_id, backend="b", upstream_model="m", http_status=200, content_type="text/event-stream"
        )
        if not self.lanes[job_id].window.next_seq:
            self.say(started)

    def produce(self, job_id: str) -> None:
        lane = self.lanes[job_id]
        if lane.outcome is None and lane.window.has_room:
            lane.window.put(f"{lane.attempt}.{lane.pieces};".encode())
            lane.pieces += 1
            self.produced[job_id, lane.attempt] += 1

    def finish(self, job_id: str, code: str | None = None) -> None:
        lane = self.lanes[job_id]
        if lane.outcome is not None:
            return
        if code is None:
            lane.outcome = JobDone(job_id=job_id, tokens=Tokens(), duration_ms=1)
        else:
            lane.outcome = JobError(job_id=job_id, error_code=code, message="no")

    def send(self, job_id: str, *, binary: bool, limit_bytes: int = 7) -> None:
        """What the window allows of a job leaves, and then its outcome."""
        lane = self.lanes[job_id]
        while lane.window.can_send:
            seq, data = lane.window.take(limit_bytes)
            if binary:
                self.say(BinaryChunk(stream_id=lane.stream_id, seq=seq, data=bytes(data)))
            else:
                self.say(JobChunk(job_id=job_id, seq=seq, data=bytes(data)))
        if lane.outcome is not None and not lane.has_left and lane.window.is_drained:
            lane.has_left = True
            lane.outcome = msgspec.structs.replace(lane.outcome, seq=lane.window.next_seq)
            self.say(lane.outcome)


@dataclass
class Client:
    """Reads its answer whenever it is its turn."""

    answer: Answer
    leave: Callable[[], object]
    has_left: bool = False
    seen: bytes = b""
    ends: list[Done | Failed] = field(default_factory=list)

    @property
    def pieces(self) -> list[tuple[int, int]]:
        """Attempt and number of each whole piece that it has seen."""
        parts = [piece.split(b".") for piece in self.seen.split(b";")[:-1]]
        return [(int(attempt), int(number)) for attempt, number in parts]


class DispatcherMachine(RuleBasedStateMachine):
    """Agents come, break off, return and leave; clients come, read and leave; time passes."""

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
            later=self.clock.later,
        )
        self.agents = {name: Agent(self.dispatcher, name, self._check_posted) for name in "abc"}
        self.clients: dict[str, Client] = {}
        for name, slots, models in (("a", first_slots, {"m"}), ("b", 1, {"m", "n"})):
            self.agents[name].connect("fresh", models, slots)
            self._settle(self.agents[name])

    def _check_posted(self, frame: Frame) -> None:
        """An ack says no more than what its client has taken, but with the outcome, when we hold the rest."""
        job = self.dispatcher._jobs.get(frame.job_id) if isinstance(frame, JobAck) else None
        if job is not None and isinstance(frame, JobAck) and frame.seq <= job.inflow.have_seq:
            assert job.inflow._acked_bytes <= job.answer.consumed_bytes

    def _settle(self, agent: Agent) -> None:
        if agent.connection is not None:
            agent.deliver(agent.connection)
            agent.work()

    def _connected(self, data: st.DataObject) -> Agent | None:
        there = [agent for agent in self.agents.values() if agent.connection is not None]
        return data.draw(st.sampled_from(there)) if there else None

    # --- agents ---------------------------------------------------------------------------

    @rule(
        name=st.sampled_from("aabc"),
        how=st.sampled_from(WAYS_BACK),
        slots=st.sampled_from([3, 2, 1, 0]),
        models=st.sampled_from(MODELS),
        is_quick=st.booleans(),
    )
    def connect(self, name: str, how: str, slots: int, models: set[str], is_quick: bool) -> None:
        """Also while another connection is there, which the newer one replaces."""
        agent = self.agents[name]
        agent.connect(how, models, slots)
        if is_quick:
            self._settle(agent)

    @rule(
        data=st.data(), is_noticed=st.booleans(), was_silent=st.booleans(), away_s=st.sampled_from([0, 1, 3])
    )
    def break_off(self, data: st.DataObject, is_noticed: bool, was_silent: bool, away_s: int) -> None:
        """And come back after a while, or, with the next `connect`, later."""
        agent = self._connected(data)
        if agent is None:
            return
        agent.drop(is_noticed=is_noticed, was_silent=was_silent)
        self.time_passes(away_s)
        if data.draw(st.booleans()):
            agent.connect("resume", {"m", "n"}, 3)

    @rule(name=st.sampled_from("abc"), count=st.integers(1, 3), is_noticed=st.booleans())
    def hear_late(self, name: str, count: int, is_noticed: bool) -> None:
        """What older connections still hold arrives; or it is noticed that they are over."""
        agent = self.agents[name]
        for connection in agent.older:
            if connection.is_known and is_noticed:
                agent.part(connection)
            elif connection.is_known:
                agent.deliver(connection, count)

    @rule(
        data=st.data(),
        what=st.sampled_from(["draining", "back to work", "change", "quit"]),
        slots=st.integers(0, 3),
        models=st.sampled_from(MODELS),
    )
    def upset(self, data: st.DataObject, what: str, slots: int, models: set[str]) -> None:
        agent = self._connected(data)
        if agent is None:
            return
        match what:
            case "quit":
                agent.quit()
            case "change":
                agent.offer(models, slots)
            case _:
                agent.say(Heartbeat(queue_depth=0, draining=what == "draining"))

    @rule(data=st.data(), actions=st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=6))
    def work(self, data: st.DataObject, actions: list[str]) -> None:
        """Some agents read what they were sent, and get on with it."""
        for action in actions:
            for agent in self.agents.values():
                agent.work()
            running = [(agent, job_id) for agent in self.agents.values() for job_id in sorted(agent.lanes)]
            if running:
                self._act(data, action, *data.draw(st.sampled_from(running)))

    @rule(data=st.data(), stretches=STRETCHES)
    def flow(self, data: st.DataObject, stretches: list[Stretch]) -> None:
        """Stretches of some answers, of which a part may still be on its way."""
        self._let_flow(data, stretches)

    def _let_flow(self, data: st.DataObject, stretches: list[Stretch]) -> None:
        for stretch in stretches:
            for agent in self.agents.values():
                self._settle(agent)
            running = [(agent, job_id) for agent in self.agents.values() for job_id in sorted(agent.lanes)]
            if running:
                self._flow(*data.draw(st.sampled_from(running)), stretch)

    @rule(data=st.data(), stretches=STRETCHES)
    def flow_on(self, data: st.DataObject, stretches: list[Stretch]) -> None:
        """The same once more: rules are drawn alike, and this is what most of the time is spent with."""
        self._let_flow(data, stretches)

    def _flow(self, agent: Agent, job_id: str, stretch: Stretch) -> None:
        for _ in range(stretch.pieces):
            agent.produce(job_id)
        if agent.connection is not None and stretch.leaving:
            agent.send(job_id, binary=stretch.binary)
            agent.deliver(agent.connection, stretch.arriving)
        if stretch.reads:
            self._read(self.clients[job_id])

    def _act(self, data: st.DataObject, action: str, agent: Agent, job_id: str) -> None:
        match action:
            case "start" if agent.connection is not None:
                agent.start(job_id)
            case "say":
                agent.produce(job_id)
            case "read":
                self._read(self.clients[job_id])
            case "done":
                agent.finish(job_id)
            case "fail":
                agent.finish(job_id, data.draw(st.sampled_from(CODES)))
            case "send" if agent.connection is not None:
                agent.send(job_id, binary=data.draw(st.booleans()))
            case "deliver" if agent.connection is not None:
                agent.deliver(agent.connection, 3)
            case "bad" if agent.connection is not None:
                bad = BadFrame("is bad", frame_type="job_chunk", job_id=job_id)
                provider = self.dispatcher.fleet.get(agent.provider_id)
                assert provider is not None
                self.dispatcher.deliver_bad(provider, bad)

    @rule(codes=st.lists(st.sampled_from(["out_of_capacity", "backend_unreachable"]), max_size=4))
    def engines_fail(self, codes: list[str]) -> None:
        """All of them do, for a while, in all that they have and are given."""
        for code in codes:
            self._let_all_fail(code)

    def _let_all_fail(self, code: str) -> None:
        """From one heartbeat to the next: that comes to an end by itself."""
        for agent in self.agents.values():
            if agent.connection is not None:
                agent.say(Heartbeat(queue_depth=0))
        for _ in range(MOST_ROUNDS):
            for agent in self.agents.values():
                self._settle(agent)
            lanes = [(agent, job_id) for agent in self.agents.values() for job_id in sorted(agent.lanes)]
            fresh = [(agent, job_id) for agent, job_id in lanes if agent.lanes[job_id].outcome is None]
            if not fresh:
                return
            for agent, job_id in fresh:
                agent.finish(job_id, code)
                if agent.connection is not None:
                    agent.send(job_id, binary=True)
        raise AssertionError("refusals go to and fro")

    # --- clients --------------------------------------------------------------------------

    @rule(model_ids=st.lists(st.sampled_from("mmmnnx"), min_size=1, max_size=3))
    def ask(self, model_ids: list[str]) -> None:
        for model_id in model_ids:
            self._ask(model_id)

    def _ask(self, model_id: str) -> None:
        run = self.dispatcher.run(JobRequest(model_id, CHAT, b"{}", stream=True))
        answer = run.__enter__()
        self.clients[answer.job_id] = Client(answer, lambda: run.__exit__(None, None, None))

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        self._read(self.clients[data.draw(st.sampled_from(sorted(self.clients)))])

    def _read(self, client: Client) -> None:
        if client.has_left:
            return
        event = self.loop.run_until_complete(read_now(client.answer))
        if isinstance(event, bytes):
            assert not client.ends, "bytes after the end"
            client.seen += event
        elif event is not None:
            client.ends.append(event)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        client = self.clients[data.draw(st.sampled_from(sorted(self.clients)))]
        client.leave()
        client.has_left = True

    @rule(seconds=st.sampled_from([0.05, 0.05, 1, 2, 10, 30, 60]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.dispatcher.expire()

    # --- what holds at all times ----------------------------------------------------------

    @invariant()
    def a_client_sees_bytes_of_one_attempt_each_once_and_in_order(self) -> None:
        for client in self.clients.values():
            assert len({attempt for attempt, _ in client.pieces}) <= 1
            assert list(range(len(client.pieces))) == [number for _, number in client.pieces]

    @invariant()
    def an_answer_that_is_done_is_whole(self) -> None:
        produced: Counter[tuple[str, int]] = Counter()
        for agent in self.agents.values():
            produced.update(agent.produced)
        for job_id, client in self.clients.items():
            if client.ends and isinstance(client.ends[0], Done) and client.pieces:
                assert len(client.pieces) == produced[job_id, client.pieces[0][0]]

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
        waiting = [job.job_id for job in self.dispatcher._placing.waiting]
        assert waiting == sorted(waiting, key=lambda job_id: self.dispatcher._jobs[job_id].arrival)
        for job_id, job in self.dispatcher._jobs.items():
            assert (job.state is JobState.QUEUED) == (job_id in waiting) == (job.provider is None)
            assert job.provider is None or job_id in job.provider.jobs
            assert job.provider is None or job.provider in self.dispatcher.fleet.providers

    @invariant()
    def streams_are_those_of_the_slots(self) -> None:
        for provider in self.dispatcher.fleet.providers:
            assert provider.streams == {slot.stream_id: job_id for job_id, slot in provider.jobs.items()}

    @invariant()
    def who_is_away_holds_only_what_clients_wait_for(self) -> None:
        fleet = self.dispatcher.fleet
        for provider in fleet.providers:
            assert (provider.session is None) == (provider.provider_id in fleet.away)
        for provider in fleet.away.values():
            assert provider.gone_at_s > self.clock()
            assert all(self.dispatcher._jobs[job_id].provider is provider for job_id in provider.jobs)

    @invariant()
    def nobody_waits_who_could_be_served(self) -> None:
        now_s, fleet = self.clock(), self.dispatcher.fleet
        for job in self.dispatcher._jobs.values():
            provider = job.provider
            is_stranded = provider is not None and provider.session is None and provider.moves_at_s <= now_s
            may_move = is_stranded and not job.answer.taken and job.failures + 1 < LIMITS.max_attempts
            if provider is None or may_move:
                choice = choose(job.request.model_id, CHAT, fleet.providers, job.excluded)
                assert not isinstance(choice, Provider)

    @invariant()
    def nobody_waits_for_ever(self) -> None:
        """Each wait has an end, and whoever is to see to that is woken in time."""
        now_s, placing = self.clock(), self.dispatcher._placing
        for job in placing.waiting:
            assert job.waits_until_s <= now_s + LIMITS.queue_max_wait_s
        dues_s = (*placing.dues_s(), *self.dispatcher._presence.dues_s(now_s))
        assert self.dispatcher._alarm._due_s <= min(dues_s, default=math.inf)

    @invariant()
    def nobody_is_tried_too_often(self) -> None:
        """By what agents said: frames that were lost on the way are no tries."""
        tries = Counter(
            event.job_id
            for event in self.events
            if isinstance(event, AttemptEnded) and event.code not in (None, "session_lost", *NO_TRIES)
        )
        assert all(tries[job_id] < LIMITS.max_attempts for job_id in self.dispatcher._jobs)

    @invariant()
    def nobody_has_more_jobs_than_slots_at_dispatch(self) -> None:
        for provider in self.dispatcher.fleet.providers:
            assert provider.free_slots >= 0

    # --- in the end -----------------------------------------------------------------------

    def teardown(self) -> None:
        """When the agents are back and have worked off all, nothing is left, here or there."""
        for agent in self.agents.values():
            if agent.connection is None or agent.connection.ended is not None:
                agent.connect("resume", {"m", "n"}, 3)
            agent.say(Heartbeat(queue_depth=0, draining=False))
        for _ in range(300):
            self._work_off()
            if all(client.ends or client.has_left for client in self.clients.values()):
                break
        for agent in self.agents.values():  # what was cancelled, and what only waits for its last ack
            for _ in range(3):
                self._go_on(agent)
        for job_id, client in self.clients.items():
            assert client.ends or client.has_left, job_id
            client.leave()
        assert not self.dispatcher._jobs
        assert not any(agent.lanes for agent in self.agents.values()), "an agent keeps what nobody wants"
        assert self.dispatcher.view().running_jobs == 0
        self.a_client_sees_bytes_of_one_attempt_each_once_and_in_order()
        self.an_answer_that_is_done_is_whole()
        self.a_job_ends_once()
        self.every_slot_is_taken_once_and_freed_once()
        self.loop.close()

    def _work_off(self) -> None:
        for agent in self.agents.values():
            self._go_on(agent)
            agent.say(Heartbeat(queue_depth=0, draining=False))
        for client in self.clients.values():
            self._read(client)
        self.clock.advance(1)
        self.dispatcher.expire()

    def _go_on(self, agent: Agent) -> None:
        self._settle(agent)
        for job_id, lane in tuple(agent.lanes.items()):
            if lane.window.has_room:  # else an ack is due, and must come
                agent.produce(job_id)
                agent.finish(job_id)
            agent.send(job_id, binary=True)
        self._settle(agent)


async def read_now(answer: Answer) -> bytes | Done | Failed | None:
    try:
        async with asyncio.timeout(0):
            return await answer.read()
    except TimeoutError:
        return None


TestDispatcherMachine = DispatcherMachine.TestCase
TestDispatcherMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
