"""A dispatcher with agents and clients around it, without a wire; the test says what each does."""

import asyncio
import contextlib
from collections.abc import Mapping

from provider_agent.coordinator.answer import Answer, Done, Failed
from provider_agent.coordinator.dispatcher import Dispatcher, DispatchLimits
from provider_agent.coordinator.events import Event
from provider_agent.coordinator.jobs import JobRequest
from provider_agent.protocol import frames
from provider_agent.protocol.frames import (
    PROTOCOL,
    BinaryChunk,
    Capabilities,
    Frame,
    Heartbeat,
    Job,
    JobAck,
    JobCancel,
    JobChunk,
    JobDone,
    JobStarted,
    Limits,
    Metadata,
    ModelOffer,
    Resume,
    ResumeJob,
    Tokens,
)
from tests.fakes.clocks import ManualClock

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"


class RecordingSession:
    """Keeps what the dispatcher says.

    Attributes:
        session_id: what an agent names when it resumes.
        posted: every frame, in order.
        ended: code and reason of the first `end`; None while the session goes on.
    """

    def __init__(self, session_id: str = "s") -> None:
        self.session_id = session_id
        self.posted: list[Frame] = []
        self.ended: tuple[int, str] | None = None

    def post(self, frame: Frame) -> None:
        self.posted.append(frame)

    def end(self, code: int, reason: str) -> None:
        self.ended = self.ended or (code, reason)


def offer(
    model_id: str,
    *,
    max_concurrent: int = 8,
    endpoints: tuple[str, ...] = (CHAT,),
    window: int | None = None,
    fingerprint: str | None = None,
    warm: bool | None = None,
    features: tuple[str, ...] | None = None,
) -> ModelOffer:
    return ModelOffer(
        model_id=model_id,
        backend="fake",
        max_concurrent=max_concurrent,
        input_per_1m=0,
        output_per_1m=0,
        endpoints=endpoints,
        context_window=window,
        fingerprint=fingerprint,
        warm=warm,
        features=features,
    )


def capabilities(
    *offers: ModelOffer, slots: int = 8, name: str = "", revision: int = 1, max_job_bytes: int | None = None
) -> Capabilities:
    return Capabilities(
        models=offers,
        limits=Limits(max_concurrent_total=slots, max_job_bytes=max_job_bytes),
        metadata=Metadata(agent_version="0.0.0-fake", name=name),
        revision=revision,
    )


class FakeAgent:
    """An agent that is connected to a dispatcher without a wire, and says what the test wants.

    Attributes:
        resumed: what it was told of the jobs that it listed.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        provider_id: str = "a",
        *models: str,
        slots: int = 8,
        protocol: int = PROTOCOL,
        resume: Resume | None = None,
        session_id: str = "s",
    ) -> None:
        self.session = RecordingSession(session_id)
        self._dispatcher = dispatcher
        self._next_seq: dict[str, int] = {}
        self.provider, self.resumed = dispatcher.join(provider_id, self.session, protocol, resume)
        self.offer(*(offer(model_id) for model_id in models), slots=slots)

    @property
    def jobs(self) -> list[Job]:
        """Every job that it was ever sent."""
        return [frame for frame in self.session.posted if isinstance(frame, Job)]

    @property
    def cancels(self) -> list[str]:
        return [frame.job_id for frame in self.session.posted if isinstance(frame, JobCancel)]

    @property
    def acks(self) -> list[tuple[str, int]]:
        return [(frame.job_id, frame.seq) for frame in self.session.posted if isinstance(frame, JobAck)]

    def say(self, frame: Frame) -> None:
        self._dispatcher.deliver(self.provider, frame)

    def offer(self, *offers: ModelOffer, slots: int = 8) -> None:
        self.say(capabilities(*offers, slots=slots, name=self.provider.provider_id))

    def start(self, job_id: str, *, http_status: int = 200, content_type: str = "text/event-stream") -> None:
        self.say(
            JobStarted(
                job_id=job_id,
                backend="fake",
                upstream_model="m",
                http_status=http_status,
                content_type=content_type,
            )
        )

    def chunk(self, job_id: str, data: bytes) -> None:
        self.say(JobChunk(job_id=job_id, data=data, seq=self._take_seq(job_id)))

    def binary_chunk(self, job: Job, data: bytes) -> None:
        assert job.stream_id is not None
        self.say(BinaryChunk(stream_id=job.stream_id, seq=self._take_seq(job.job_id), data=data))

    def _take_seq(self, job_id: str) -> int:
        seq = self._next_seq.get(job_id, 0)
        self._next_seq[job_id] = seq + 1
        return seq

    def done(self, job_id: str) -> None:
        seq = self._next_seq.pop(job_id, 0)
        self.say(JobDone(job_id=job_id, tokens=Tokens.of(1, 2), duration_ms=1, seq=seq, chunks=seq))

    def fail(self, job_id: str, code: str, **fields: int | bool | str | None) -> None:
        known: Mapping[str, object] = {
            "message": f"fake {code}",
            "seq": self._next_seq.pop(job_id, 0),
            **fields,
        }
        self.say(frames.JobError(job_id=job_id, error_code=code, **known))  # type: ignore[arg-type]

    def heartbeat(self, *, draining: bool | None = None) -> None:
        self.say(Heartbeat(queue_depth=0, draining=draining))

    def leave(self) -> None:
        """Go on purpose: nothing of it is waited for."""
        self._dispatcher.part(self.provider, self.session, resumable=False)

    def break_off(self, *, was_silent: bool = False) -> None:
        """Lose the connection."""
        self._dispatcher.part(self.provider, self.session, resumable=True, was_silent=was_silent)

    def return_with(
        self, *listed: ResumeJob, slots: int = 8, session_id: str = "s2", models: tuple[str, ...] = ("m",)
    ) -> "FakeAgent":
        """Come again in a new connection, which resumes this session, and go on where its jobs stand."""
        newer = FakeAgent(
            self._dispatcher,
            self.provider.provider_id,
            *models,
            slots=slots,
            resume=Resume(session_id=self.session.session_id, jobs=listed),
            session_id=session_id,
        )
        assert newer.resumed is not None
        newer._next_seq = {job.job_id: job.have_seq + 1 for job in newer.resumed.jobs}
        return newer


class Coordinator:
    """A dispatcher with a clock of its own, and clients that come and leave as the test says."""

    def __init__(self, limits: DispatchLimits | None = None) -> None:
        self.clock = ManualClock()
        self.events: list[Event] = []
        self.dispatcher = Dispatcher(
            limits or DispatchLimits(),
            clock=self.clock,
            on_event=self.events.append,
            new_job_id=iter(f"j{i}" for i in range(1, 10_000)).__next__,
            later=self.clock.later,
        )
        self._clients: dict[str, contextlib.ExitStack] = {}

    def ask(self, model_id: str = "m", endpoint: str = CHAT) -> Answer:
        stack = contextlib.ExitStack()
        request = JobRequest(model_id, endpoint, b'{"model":"m"}', stream=True, client="ann")
        answer = stack.enter_context(self.dispatcher.run(request))
        self._clients[answer.job_id] = stack
        return answer

    def leave(self, answer: Answer) -> None:
        self._clients.pop(answer.job_id).close()

    def agent(self, provider_id: str = "a", *models: str, slots: int = 8, protocol: int = 3) -> FakeAgent:
        return FakeAgent(self.dispatcher, provider_id, *(models or ("m",)), slots=slots, protocol=protocol)

    def close(self) -> None:
        for stack in self._clients.values():
            stack.close()


async def end_of(answer: Answer) -> Done | Failed:
    """How it ended, past all bytes; fails when it has not."""
    while True:
        event = await now(answer)
        if not isinstance(event, bytes):
            return event


async def now(answer: Answer) -> bytes | Done | Failed:
    async with asyncio.timeout(0):
        return await answer.read()


async def code_of(answer: Answer) -> str:
    end = await end_of(answer)
    assert isinstance(end, Failed), end
    return end.code


def waits(answer: Answer) -> bool:
    return answer.agent == ""
