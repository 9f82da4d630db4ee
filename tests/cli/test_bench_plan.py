"""What is measured, on an endpoint whose every answer takes a set time by a clock that stands still else."""

from collections.abc import AsyncIterator

import pytest

from provider_agent.cli.bench_client import Endpoint, EndpointFailed, Heard, Stall
from provider_agent.cli.bench_plan import Effort, Findings, Plan
from tests.fakes.clocks import ManualClock

EFFORT = Effort(streams=3, runs=2, tokens=11, long_tokens=100, recovery_limit_s=5.0)
FIRST_S = 0.002


class ScriptedEndpoint(Endpoint):
    """Gives its first token after 2 ms, and the others at 100 a second."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__("http://endpoint.example", clock=clock)
        self.clock = clock
        self.asked: list[int] = []
        self.left = 0

    async def hear(self, model: str, max_tokens: int) -> Heard:
        self.asked.append(max_tokens)
        first_s = FIRST_S + self.delay_s()
        took_s = first_s + (max_tokens - 1) / 100
        self.clock.advance(took_s)
        return Heard(max_tokens, first_s, took_s, is_whole=True)

    async def pieces(self, model: str, max_tokens: int, heard: Heard) -> AsyncIterator[int]:
        for number in range(1, max_tokens + 1):
            try:
                yield number
            except GeneratorExit:
                self.left += 1
                raise

    async def wait_unstreamed(self, model: str, max_tokens: int) -> None:
        self.left += 1

    async def hear_stalled(self, model: str, max_tokens: int, stall: Stall, heard: Heard) -> None:
        stall.begun.set()
        await stall.over.wait()
        heard.tokens, heard.is_whole = max_tokens, True

    def delay_s(self) -> float:
        """Of the first token, beyond the usual."""
        return 0.0


class WorkingForTheGone(ScriptedEndpoint):
    """After clients left it goes on for them: for a second, first tokens come late."""

    busy_until_s = 0.0

    async def pieces(self, model: str, max_tokens: int, heard: Heard) -> AsyncIterator[int]:
        self.busy_until_s = self.clock() + 1
        async for number in super().pieces(model, max_tokens, heard):
            yield number

    def delay_s(self) -> float:
        return 0.4 if self.clock() < self.busy_until_s else 0.0


class NeverQuietAgain(WorkingForTheGone):
    """It goes on for ever."""

    def delay_s(self) -> float:
        return 0.4 if self.busy_until_s else 0.0


class Crowded(ScriptedEndpoint):
    """Of three at once, it refuses one."""

    async def hear(self, model: str, max_tokens: int) -> Heard:
        if len(self.asked) == 5:
            self.asked.append(0)
            raise EndpointFailed("the endpoint answered 429: too many", 429)
        return await super().hear(model, max_tokens)


class CuttingTheStalled(ScriptedEndpoint):
    """A reader that stalls loses its answer."""

    async def hear_stalled(self, model: str, max_tokens: int, stall: Stall, heard: Heard) -> None:
        stall.begun.set()
        await stall.over.wait()
        raise EndpointFailed("the answer broke off: too slow")


async def findings_of(endpoint: ScriptedEndpoint, effort: Effort = EFFORT) -> Findings:
    return await Plan(endpoint, "a", effort, clock=endpoint.clock).run("http://endpoint.example")


async def test_all_of_it_is_measured_in_order() -> None:
    """First answer, one by one, at once, after each way to leave, beside a stalled reader."""
    endpoint, steps = ScriptedEndpoint(ManualClock()), list[str]()
    plan = Plan(endpoint, "a", EFFORT, on_step=steps.append, clock=endpoint.clock)
    findings = await plan.run("http://endpoint.example")

    assert len(steps) == 7
    assert [(speed.streams, speed.failed) for speed in findings.speeds] == [(1, 0), (3, 0)]
    assert findings.speeds[0].first_token_ms == pytest.approx(2.0)
    assert findings.speeds[0].tokens_per_s == pytest.approx(100.0)
    assert [left.when for left in findings.left] == ["streaming", "before the first token", "not streamed"]
    assert [left.recovered_ms for left in findings.left] == [0.0, 0.0, 0.0]
    assert findings.stalled is not None
    assert (findings.stalled.is_whole, findings.stalled.tokens) == (True, 100)


async def test_an_endpoint_that_works_for_those_who_left_is_seen() -> None:
    """The next first token is late, and so are others for a while."""
    streaming = (await findings_of(WorkingForTheGone(ManualClock()))).left[0]

    assert streaming.next_first_token_ms == pytest.approx(402.0)
    assert streaming.recovered_ms == pytest.approx(1206.0)


async def test_an_endpoint_that_never_recovers_is_not_watched_for_ever() -> None:
    """Nothing is claimed about when it will."""
    assert (await findings_of(NeverQuietAgain(ManualClock()))).left[0].recovered_ms is None


async def test_each_of_the_many_leaves() -> None:
    """In the middle of the stream, and while waiting for an unstreamed answer."""
    endpoint = ScriptedEndpoint(ManualClock())
    await findings_of(endpoint)

    assert endpoint.left == 6


async def test_refused_streams_are_counted_and_the_others_measured() -> None:
    """No room for so many is a finding."""
    many = (await findings_of(Crowded(ManualClock()))).speeds[1]

    assert (many.failed, many.failure) == (1, "the endpoint answered 429: too many")
    assert many.tokens_per_s == pytest.approx(100.0)


async def test_a_stalled_reader_that_was_cut_is_told_as_such() -> None:
    """With the reason."""
    stalled = (await findings_of(CuttingTheStalled(ManualClock()))).stalled

    assert stalled is not None
    assert (stalled.is_whole, stalled.failure) == (False, "the answer broke off: too slow")


async def test_one_stream_alone_is_not_measured_twice() -> None:
    """`--streams 1`."""
    assert len((await findings_of(ScriptedEndpoint(ManualClock()), Effort(streams=1, runs=1))).speeds) == 1
