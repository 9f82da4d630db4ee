"""`validate --live`, as a process, against simulated engines."""

import asyncio
import json
from pathlib import Path

import pytest

from provider_agent.agent.routing import Policy, RoutingTable
from provider_agent.agent.trial import Result, Trial, Verdict
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.cli.validate_live import Wish, all_answered, as_values, try_offer
from provider_agent.protocol.errors import ErrorCode
from provider_agent.simulator import Failures, Pace, Simulator, SimulatorConfig
from tests.fakes.backends import ScriptedBackend, ScriptedReply
from tests.fakes.configs import loaded
from tests.fakes.programs import Ended, command

QUICK = Pace(first_token_s=0.005, tokens_per_s=400)
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


async def live(folder: Path, *urls: str, kind: str = "openai", flags: tuple[str, ...] = ("--json",)) -> Ended:
    """The command with these engines."""
    file = folder / "agent.toml"
    engines = "".join(f'[[backends]]\nkind = "{kind}"\nurl = "{url}"\n' for url in urls)
    file.write_text(
        '[coordinator]\nurl = "ws://127.0.0.1:8700/v1/agents/connect"\nenrollment_code = "x"\n'
        f'[identity]\nkey_path = "{folder}/identity.key"\n[discovery]\nenabled = false\n{engines}'
    )
    return await command("validate", "--config", str(file), "--live", *flags)


async def test_each_endpoint_of_each_model_is_tried_and_measured(folder: Path) -> None:
    """A script gets one document."""
    async with Simulator(SimulatorConfig(models=("a", "b"), pace=QUICK)) as simulator:
        ended = await live(folder, simulator.url)
    findings = json.loads(ended.stdout)

    assert (ended.code, ended.stderr, findings["all_answered"]) == (0, "", True)
    tried = [(each["model"], each["endpoint"], each["verdict"]) for each in findings["trials"]]
    endpoints = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
    assert tried == [(model, endpoint, "answered") for model in ("a", "b") for endpoint in endpoints]
    chat = findings["trials"][0]
    assert chat["first_byte_ms"] > 0
    assert chat["output_tokens"] == 16
    assert chat["tokens_per_s"] > 0


async def test_the_engines_own_api_is_tried_too(folder: Path) -> None:
    """Ollama's chat, generate and embed."""
    async with Simulator(SimulatorConfig(models=("a",), api="ollama", pace=QUICK)) as simulator:
        ended = await live(folder, simulator.url, kind="ollama")
    answered = {
        each["endpoint"] for each in json.loads(ended.stdout)["trials"] if each["verdict"] == "answered"
    }

    assert {"/api/chat", "/api/generate", "/api/embed", "/v1/chat/completions"} <= answered


async def test_an_engine_that_fails_is_69_and_a_sentence(folder: Path) -> None:
    """The others are shown all the same."""
    broken = SimulatorConfig(models=("bad",), pace=QUICK, failures=Failures(cut_after=2))
    async with Simulator(broken) as simulator, Simulator(SimulatorConfig(models=("good",))) as other:
        ended = await live(folder, simulator.url, other.url, flags=("--timeout", "10"))

    assert ended.code == 69
    assert "see its log" in ended.stdout
    assert "Not all is well" in ended.stdout
    assert "good" in ended.stdout


async def test_an_engine_that_is_silent_is_given_up_at_the_time_limit(folder: Path) -> None:
    """And is not asked for the rest, where it would be silent as well."""
    silent = SimulatorConfig(models=("m",), pace=QUICK, failures=Failures(silence_after=1))
    async with Simulator(silent) as simulator:
        ended = await live(folder, simulator.url, flags=("--timeout", "0.3", "--json"))
    trials = json.loads(ended.stdout)["trials"]

    assert ended.code == 69
    assert [each["verdict"] for each in trials] == ["failed", "untried", "untried"]
    assert "not whole within 0.3 s" in trials[0]["problem"]


async def test_an_engine_that_is_down_is_69(folder: Path) -> None:
    """Without --live it would be none of our business."""
    ended = await live(folder, NOBODY, flags=())

    assert ended.code == 69
    assert "does not accept connections" in " ".join(ended.stdout.split())


async def test_a_glob_restricts_it(folder: Path) -> None:
    """One model is asked, and only that is judged: another engine may be down."""
    async with Simulator(SimulatorConfig(models=("a", "b"), pace=QUICK)) as simulator:
        ended = await live(folder, simulator.url, NOBODY, flags=("--json", "--model", "b*"))

    assert ended.code == 0
    assert {each["model"] for each in json.loads(ended.stdout)["trials"]} == {"b"}


async def test_a_glob_that_fits_nothing_is_66(folder: Path) -> None:
    """What there is stands beside it."""
    async with Simulator(SimulatorConfig(models=("a", "b"))) as simulator:
        ended = await live(folder, simulator.url, flags=("--model", "c"))

    assert (ended.code, ended.stdout) == (66, "")
    assert ended.stderr.strip().endswith("is called c; there are: a, b")


async def test_the_ways_of_trying_need_live(folder: Path) -> None:
    """Nothing is ignored in silence."""
    ended = await command("validate", "--paid", cwd=folder)

    assert ended.code == 64
    assert "add --live" in ended.stderr


class BackendThatIsInterrupted(ScriptedBackend):
    """Somebody presses Ctrl-C while it is silent."""

    def __init__(self, stop: asyncio.Event) -> None:
        super().__init__(asyncio.Event(), name="silent", priority=200)
        self._stop = stop

    def reply(self) -> ScriptedReply:
        self._stop.set()
        return super().reply()


async def test_what_is_known_when_somebody_stops_it_is_shown(tmp_path: Path) -> None:
    """Minutes of waiting are not thrown away, and what is left is not called good."""
    stop = asyncio.Event()
    silent = BackendThatIsInterrupted(stop)
    entries = [CatalogEntry(each, each.models, healthy=True) for each in (ScriptedBackend(b"x"), silent)]
    table = RoutingTable(Catalog(tuple(entries)), Policy())

    async with asyncio.timeout(5):
        config = loaded(tmp_path / "agent.toml", "")
        got = await try_offer(config, table, Wish(None, paid=False, limit_s=60), stop)

    assert [(each.trial.backend.name, each.verdict) for each in got] == [
        ("scripted", Verdict.ANSWERED),
        ("silent", Verdict.UNTRIED),
    ]
    assert not all_answered(got)
    assert all_answered(got[:1])
    assert silent.open_connections == 0


def test_what_was_not_measured_is_null() -> None:
    """A number that nobody took is no zero."""
    trial = Trial(ScriptedBackend(), "m", ("m", "best"), "/v1/embeddings")
    failed = Result(trial, Verdict.FAILED, code=ErrorCode.BACKEND_ERROR, problem="broke", remedy="mend it")

    assert as_values([failed]) == [
        {
            "backend": "scripted",
            "model": "m",
            "offered_as": ["m", "best"],
            "endpoint": "/v1/embeddings",
            "verdict": "failed",
            "first_byte_ms": None,
            "duration_ms": None,
            "output_tokens": None,
            "tokens_per_s": None,
            "code": "backend_error",
            "problem": "broke",
            "remedy": "mend it",
        }
    ]
