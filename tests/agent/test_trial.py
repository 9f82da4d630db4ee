"""What is tried of an offer, in which order, how it is measured, and what is said of what goes wrong."""

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager

import pytest

from provider_agent.agent.routing import Policy, RoutingTable
from provider_agent.agent.trial import (
    Result,
    Trial,
    Trials,
    Verdict,
    has_failed,
    is_elsewhere,
    plan,
    tried_first,
)
from provider_agent.backends.base import (
    AuthRejected,
    BackendFailed,
    BackendModel,
    BackendUnreachable,
    BadRequest,
    Call,
    EndpointUnsupported,
    ModelNotFound,
    Usage,
)
from provider_agent.backends.discovery import Catalog, CatalogEntry
from tests.fakes.backends import CHAT, ScriptedBackend, ScriptedReply

EMBEDDINGS = "/v1/embeddings"
COMPLETIONS = "/v1/completions"


def table(
    *backends: ScriptedBackend, policy: Policy | None = None, serves: Iterable[str] = ()
) -> RoutingTable:
    entries = [
        CatalogEntry(
            backend,
            tuple(BackendModel(m.model_id, frozenset(serves) or m.endpoints) for m in backend.models),
            healthy=True,
        )
        for backend in backends
    ]
    return RoutingTable(Catalog(tuple(entries)), policy or Policy())


def shown(trials: Iterable[Trial]) -> list[tuple[str, str, str]]:
    return [(trial.backend.name, trial.model, trial.endpoint) for trial in trials]


def ticking() -> Callable[[], float]:
    """A clock that goes on by a second whenever it is looked at."""
    ticks = itertools.count()
    return lambda: float(next(ticks))


async def results(trials: Trials, planned: Iterable[Trial]) -> list[Result]:
    async with asyncio.timeout(5):
        return [result async for result in trials.run(planned)]


async def only(backend: ScriptedBackend, **settings: object) -> Result:
    """What comes of one trial of a model's chat."""
    trials = Trials(**{"limit_s": 5.0, **settings})  # type: ignore[arg-type]
    (result,) = await results(trials, plan(table(backend)))
    return result


def result(verdict: Verdict, model: str = "m", endpoint: str = CHAT) -> Result:
    return Result(Trial(ScriptedBackend(), model, (model,), endpoint), verdict)


# --- what is tried -----------------------------------------------------------------------


def test_each_engine_model_and_endpoint_is_tried_once_and_models_do_not_take_turns() -> None:
    """An engine that must load a model for each question would spend its time on that."""
    first, second = ScriptedBackend(name="a", models=("y", "x")), ScriptedBackend(name="b", models=("x",))

    planned = plan(table(first, second, serves=[EMBEDDINGS, CHAT]))

    assert shown(planned) == [
        ("a", "x", CHAT),
        ("a", "x", EMBEDDINGS),
        ("a", "y", CHAT),
        ("a", "y", EMBEDDINGS),
        ("b", "x", CHAT),
        ("b", "x", EMBEDDINGS),
    ]


def test_a_model_with_two_names_is_tried_once() -> None:
    """An alias is the same model."""
    (trial,) = plan(table(ScriptedBackend(models=("tiny",)), policy=Policy(aliases={"best": "tiny"})))

    assert (trial.model, trial.names) == ("tiny", ("best", "tiny"))


def test_only_what_is_offered_is_tried() -> None:
    """A hidden model is nobody's business here."""
    backend = ScriptedBackend(models=("open", "secret"))

    assert shown(plan(table(backend, policy=Policy(hide=("secret",))))) == [("scripted", "open", CHAT)]


@pytest.mark.parametrize("glob", ["best", "ti*"])
def test_globs_choose_by_either_name(glob: str) -> None:
    """The one that clients use, and the one that the engine uses."""
    known = table(ScriptedBackend(models=("tiny", "other")), policy=Policy(aliases={"best": "tiny"}))

    assert [trial.model for trial in plan(known, [glob])] == ["tiny"]
    assert plan(known, ["nothing"]) == ()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", False),
        ("http://[::1]:8000", False),
        ("http://192.168.1.7:8000", False),
        ("http://100.64.3.2:8000", False),
        ("http://localhost:11434", False),
        ("http://ollama:11434", False),
        ("http://den.local:11434", False),
        ("https://api.example.com", True),
        ("https://8.8.8.8", True),
    ],
)
def test_what_is_beyond_the_own_network_is_known_by_its_address(url: str, expected: bool) -> None:
    """Private addresses, plain names and names of home networks are the operator's own."""
    backend = ScriptedBackend()
    backend.url = url

    assert is_elsewhere(backend) is expected


def test_of_several_endpoints_chat_is_tried_first() -> None:
    """Most requests go there; one that nobody knows how to ask is not tried."""
    assert tried_first({EMBEDDINGS, COMPLETIONS, CHAT}) == CHAT
    assert tried_first({EMBEDDINGS, "/v1/odd"}) == EMBEDDINGS
    assert tried_first({"/v1/odd"}) is None


def test_a_gateway_to_somebody_elses_engines_is_elsewhere() -> None:
    """It may run on this machine, and its answers cost money all the same."""
    backend = ScriptedBackend()
    backend.kind = "remote"

    assert is_elsewhere(backend)


class FarBackend(ScriptedBackend):
    """An engine that others run."""

    def __init__(self, *steps: bytes) -> None:
        super().__init__(*steps)
        self.url = "https://api.example.com"


async def test_an_engine_elsewhere_is_asked_only_on_demand() -> None:
    """Its answers may cost money."""
    backend = FarBackend(b"x")

    assert (await only(backend)).verdict is Verdict.UNTRIED
    assert backend.calls == []
    assert (await only(backend, asks_elsewhere=True)).verdict is Verdict.ANSWERED


async def test_an_endpoint_without_a_trial_is_left_out_in_words() -> None:
    """A new one must not be guessed at."""
    (left_out,) = await results(Trials(5), plan(table(ScriptedBackend(), serves=["/v1/new"])))

    assert (left_out.verdict, left_out.problem) == (Verdict.UNTRIED, "there is no trial of that endpoint")


# --- what is measured --------------------------------------------------------------------


async def test_an_answer_is_measured() -> None:
    """Begun at 0 s, pieces at 1, 2 and 3 s, five tokens: four came in the two seconds after the first."""
    backend = ScriptedBackend(b"a", b"b", b"c", usage=Usage(3, 5))
    told: list[Trial] = []

    answered = await only(backend, clock=ticking(), on_trial=told.append)

    assert answered.verdict is Verdict.ANSWERED
    assert (answered.first_byte_s, answered.tokens_per_s, answered.output_tokens) == (1.0, 2.0, 5)
    assert answered.duration_s == 4.0
    assert shown(told) == [("scripted", "m", CHAT)]
    (call,) = backend.calls
    assert (call.model, call.stream, json.loads(call.body)["max_tokens"]) == ("m", True, 16)


@pytest.mark.parametrize(
    ("steps", "usage"), [((b"all",), Usage(3, 5)), ((b"a", b"b"), Usage()), ((b"a", b"b"), Usage(3, 1))]
)
async def test_a_speed_that_cannot_be_known_is_not_invented(steps: tuple[bytes, ...], usage: Usage) -> None:
    """All in one piece, no count, or one token only."""
    answered = await only(ScriptedBackend(*steps, usage=usage), clock=ticking())

    assert (answered.verdict, answered.tokens_per_s) == (Verdict.ANSWERED, None)


async def test_pieces_that_come_at_the_same_moment_tell_no_speed() -> None:
    """Some engines stream an answer that is finished: 60,000 tokens a second would be nonsense."""
    ticks = itertools.count()

    answered = await only(
        ScriptedBackend(b"a", b"b", b"c", usage=Usage(3, 16)), clock=lambda: next(ticks) / 10_000
    )

    assert (answered.verdict, answered.tokens_per_s) == (Verdict.ANSWERED, None)


# --- what goes wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "verdict", "remedy"),
    [
        (BackendFailed("broke"), Verdict.FAILED, "log"),
        (AuthRejected("no"), Verdict.FAILED, "api_key_env"),
        (BadRequest("no template"), Verdict.REFUSED, "models.hide"),
        (EndpointUnsupported("not here"), Verdict.REFUSED, "nothing else is wrong"),
    ],
)
async def test_what_the_engine_says_is_told_with_a_remedy(
    error: BackendFailed, verdict: Verdict, remedy: str
) -> None:
    """A refusal concerns one endpoint, a failure the engine."""
    judged = await only(ScriptedBackend(refuses=error))

    assert (judged.verdict, judged.code, judged.problem) == (verdict, error.code, error.message)
    assert remedy in judged.remedy


async def test_an_answer_that_breaks_off_is_a_failure() -> None:
    """What came before does not make it whole."""
    assert (await only(ScriptedBackend(b"a", BackendFailed("broke")))).verdict is Verdict.FAILED


class BackendWithChatOnly(ScriptedBackend):
    """Says 404 to everything else, as engines do that are older than an endpoint."""

    def open(self, call: Call) -> AbstractAsyncContextManager[ScriptedReply]:  # type: ignore[override]
        if call.endpoint != CHAT:
            raise ModelNotFound("the engine does not have that model")
        return super().open(call)


async def test_a_404_is_not_blamed_on_a_model_that_has_just_answered() -> None:
    """Then it is the endpoint that is missing."""
    backend = BackendWithChatOnly(b"x")

    chat, embeddings = await results(Trials(5), plan(table(backend, serves=[CHAT, EMBEDDINGS])))

    assert chat.verdict is Verdict.ANSWERED
    assert (embeddings.verdict, embeddings.code) == (Verdict.REFUSED, EndpointUnsupported.code)
    assert "no such endpoint" in embeddings.problem


async def test_llama_cpp_is_told_how_to_embed() -> None:
    """Its own words for what is missing."""
    backend = ScriptedBackend(refuses=EndpointUnsupported("not here"))
    backend.kind = "llamacpp"

    (judged,) = await results(Trials(5), plan(table(backend, serves=[EMBEDDINGS])))

    assert "--embeddings" in judged.remedy


@pytest.mark.parametrize(("steps", "said"), [((), "not one byte"), ((b"a",), "not whole within")])
async def test_silence_ends_at_the_time_limit(steps: tuple[bytes, ...], said: str) -> None:
    """With what came until then, and the connection is closed."""
    backend = ScriptedBackend(*steps, asyncio.Event())

    late = await only(backend, limit_s=0.05)

    assert late.verdict is Verdict.FAILED
    assert said in late.problem
    assert "0.05 s" in late.problem
    assert backend.open_connections == 0


async def test_a_model_that_was_too_late_is_not_waited_for_again() -> None:
    """Its other endpoints would only take the same time; the other model gets its chance."""
    backend = ScriptedBackend(asyncio.Event(), models=("a", "b"))

    got = await results(Trials(0.05), plan(table(backend, serves=[CHAT, COMPLETIONS])))

    assert [each.verdict for each in got] == [Verdict.FAILED, Verdict.UNTRIED] * 2


class BackendThatGoesAway(ScriptedBackend):
    """Nothing listens there any more."""

    def open(self, call: object) -> AbstractAsyncContextManager[object]:  # type: ignore[override]
        raise BackendUnreachable("the engine does not accept connections")


async def test_an_engine_that_is_gone_is_not_asked_again() -> None:
    """One sentence about it is enough; the next engine is asked."""
    gone, other = BackendThatGoesAway(name="a", models=("x", "y")), ScriptedBackend(b"x", name="b")

    got = await results(Trials(5), plan(table(gone, other)))

    assert [each.verdict for each in got] == [Verdict.FAILED, Verdict.UNTRIED, Verdict.ANSWERED]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([result(Verdict.ANSWERED)], False),
        ([result(Verdict.ANSWERED), result(Verdict.REFUSED, endpoint=EMBEDDINGS)], False),
        ([result(Verdict.ANSWERED), result(Verdict.FAILED, endpoint=EMBEDDINGS)], True),
        ([result(Verdict.ANSWERED), result(Verdict.REFUSED, model="other")], True),
        ([result(Verdict.UNTRIED)], False),
        ([], False),
    ],
)
def test_a_model_that_refuses_everything_has_failed(given: list[Result], expected: bool) -> None:
    """One that serves something is fine: not every model embeds."""
    assert has_failed(given) is expected
