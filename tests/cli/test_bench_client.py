"""The client that measures, against the simulated engine."""

import asyncio
import contextlib
from itertools import count

import pytest

from provider_agent.cli.bench_client import Endpoint, EndpointFailed, Heard, Stall
from provider_agent.simulator import Failures, Pace, Simulator, SimulatorConfig
from tests.fakes.engine import DONE, FakeEngine, sse

MODEL = "simulated-7b"
FAST = Pace(0.01, 2000)
SLOW = Pace(0.01, 100)
NEVER = Pace(3600, 1)


async def is_free(simulator: Simulator) -> None:
    """Wait until the engine works for nobody."""
    async with asyncio.timeout(5):
        while simulator.slots.busy:  # noqa: ASYNC110 - another process would not tell us, either
            await asyncio.sleep(0.005)


async def test_an_answer_is_heard_whole_and_timed() -> None:
    """The endpoint's own count of tokens, and times that fit each other."""
    async with Simulator(SimulatorConfig(pace=FAST)) as simulator, Endpoint(simulator.url) as endpoint:
        heard = await endpoint.hear(MODEL, 40)

    assert heard.is_whole
    assert heard.tokens == 40
    assert heard.first_token_s is not None
    assert 0.01 <= heard.first_token_s < heard.last_token_s
    assert heard.tokens_per_s is not None


async def test_the_models_are_listed() -> None:
    """By the names that requests use."""
    async with (
        Simulator(SimulatorConfig(models=("a", "b"))) as simulator,
        Endpoint(simulator.url) as endpoint,
    ):
        assert sorted(await endpoint.models()) == ["a", "b"]


FAILURES = [
    (Failures(status=429), "the endpoint answered 429: Too many requests", 429),
    (Failures(error_after=3), "the answer broke off: ", None),
    (Failures(end_after=3), "the answer ended without its end mark", None),
    (Failures(cut_after=3), "the connection broke: ", None),
    (Failures(html=True), "the answer ended without its end mark", None),
]


@pytest.mark.parametrize(("failures", "sentence", "status"), FAILURES)
async def test_an_answer_that_is_not_whole_fails_with_one_sentence(
    failures: Failures, sentence: str, status: int | None
) -> None:
    """A truncated answer is never counted as one."""
    config = SimulatorConfig(failures=failures, pace=FAST)
    async with Simulator(config) as simulator, Endpoint(simulator.url) as endpoint:
        with pytest.raises(EndpointFailed) as caught:
            await endpoint.hear(MODEL, 40)

    assert str(caught.value).startswith(sentence)
    assert caught.value.status == status
    assert "\n" not in str(caught.value)


async def test_nobody_there_is_one_sentence() -> None:
    """In the system's own words."""
    async with Endpoint("http://127.0.0.1:9") as endpoint:
        with pytest.raises(EndpointFailed, match="cannot connect: Connection refused"):
            await endpoint.models()


async def test_a_connection_that_was_closed_after_an_answer_is_no_failure() -> None:
    """llama.cpp closes it after each stream without having said so, when the next request is on its way."""

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n' + DONE
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"}]")  # the body of this request, and then all of the next one
            await reader.readuntil(b"}]")
        writer.close()

    server = await asyncio.start_server(answer_once, "127.0.0.1", 0)
    async with server, Endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as endpoint:
        heard = [await endpoint.hear(MODEL, 1) for _ in range(2)]

    assert [each.is_whole for each in heard] == [True, True]


async def test_a_list_of_models_in_another_form_is_one_sentence() -> None:
    """Such as that of a server which is something else altogether."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, Endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as endpoint:
        with pytest.raises(EndpointFailed, match="no form that is known"):
            await endpoint.models()


@pytest.mark.parametrize(
    "event", [b"5", b"[]", b'{"usage":5}', b'{"choices":7}', b'{"choices":[{"delta":"x"}]}']
)
async def test_an_event_in_another_form_is_one_sentence(event: bytes) -> None:
    """Any endpoint may be measured, whatever it thinks a stream is."""
    async with FakeEngine() as engine, Endpoint(engine.url) as endpoint:
        engine.will_answer(sse(b"data: " + event + b"\n\n" + DONE))
        with pytest.raises(EndpointFailed, match="no form that is known"):
            await endpoint.hear(MODEL, 40)


async def test_leaving_a_stream_closes_its_connection() -> None:
    """Else the engine would go on for nobody, and the measurement would measure itself."""
    async with Simulator(SimulatorConfig(pace=SLOW)) as simulator, Endpoint(simulator.url) as endpoint:
        pieces = endpoint.pieces(MODEL, 1000, Heard())
        async for _ in pieces:
            break
        await pieces.aclose()  # type: ignore[attr-defined]
        await is_free(simulator)


@pytest.mark.parametrize("streamed", [True, False])
async def test_leaving_before_the_first_byte_closes_the_connection(*, streamed: bool) -> None:
    """Cancelled while the engine reads the prompt."""
    async with Simulator(SimulatorConfig(pace=NEVER)) as simulator, Endpoint(simulator.url) as endpoint:
        ask = endpoint.hear if streamed else endpoint.wait_unstreamed
        task = asyncio.ensure_future(ask(MODEL, 10))
        async with asyncio.timeout(5):
            while not simulator.slots.busy:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)
        task.cancel()
        await is_free(simulator)

    assert task.cancelled()


async def test_a_reader_that_stalled_gets_its_answer_once_it_reads_on() -> None:
    """Whole, and timed to the end."""
    stall, heard = Stall(), Heard()
    async with Simulator(SimulatorConfig(pace=FAST)) as simulator, Endpoint(simulator.url) as endpoint:
        task = asyncio.ensure_future(endpoint.hear_stalled(MODEL, 40, stall, heard))
        async with asyncio.timeout(5):
            await stall.begun.wait()
            assert heard.tokens == 1
            stall.over.set()
            await task

    assert (heard.is_whole, heard.tokens) == (True, 40)


async def test_the_clock_is_the_callers() -> None:
    """Times are differences of what it says."""
    ticks = count()
    async with (
        Simulator(SimulatorConfig(pace=FAST)) as simulator,
        Endpoint(simulator.url, clock=lambda: float(next(ticks))) as endpoint,
    ):
        heard = await endpoint.hear(MODEL, 5)

    assert (heard.first_token_s, heard.last_token_s) == (1.0, 5.0)
    assert heard.tokens_per_s == 1.0


def test_a_single_token_has_no_speed() -> None:
    """There was no time between the first and the last."""
    assert Heard(tokens=1, first_token_s=1.0, last_token_s=1.0).tokens_per_s is None
