"""The command `bench`, as a process, against a simulated engine."""

import json

from provider_agent.simulator import Pace, Simulator, SimulatorConfig
from tests.fakes.programs import command

CONFIG = SimulatorConfig(models=("embed-small", "chatty"), pace=Pace(0.005, 0), slots=4)
BRIEF = ("--streams", "2", "--tokens", "8")


async def test_it_measures_an_endpoint_and_tells_scripts_all_of_it() -> None:
    """The first model that can chat, and a URL in any spelling."""
    async with Simulator(CONFIG) as simulator:
        ended = await command("bench", simulator.url + "/v1/", *BRIEF, "--json")
    findings = json.loads(ended.stdout)

    assert ended.code == 0, ended.stderr
    assert (findings["url"], findings["model"]) == (simulator.url, "chatty")
    assert [speed["streams"] for speed in findings["speeds"]] == [1, 2]
    assert len(findings["left"]) == 3
    assert findings["stalled"]["is_whole"] is True
    assert "measuring: a stalled reader" in ended.stderr


async def test_people_get_tables() -> None:
    """On standard output; what it is doing meanwhile goes to standard error."""
    async with Simulator(CONFIG) as simulator:
        ended = await command("bench", simulator.url, *BRIEF, "--model", "chatty")

    assert ended.code == 0
    assert "chatty at http://127.0.0.1" in ended.stdout
    assert "2 at once" in ended.stdout


async def test_nobody_there_is_one_sentence() -> None:
    """69: starting it may help."""
    ended = await command("bench", "http://127.0.0.1:9")

    assert ended.code == 69
    assert ended.stderr == "provider-agent: http://127.0.0.1:9: cannot connect: Connection refused\n"


async def test_a_model_that_is_not_offered_is_told_with_those_that_are() -> None:
    """66: what the command line names does not exist."""
    async with Simulator(CONFIG) as simulator:
        ended = await command("bench", simulator.url, "--model", "chaty")

    assert ended.code == 66
    assert ended.stderr.strip().endswith("does not offer chaty; it offers embed-small, chatty")


async def test_an_endpoint_without_a_model_for_chats_is_told_as_such() -> None:
    """There is nothing to measure."""
    async with Simulator(SimulatorConfig(models=("embed-small",))) as simulator:
        ended = await command("bench", simulator.url)

    assert ended.code == 66
    assert "does not offer a model for chats; it offers embed-small" in ended.stderr


async def test_a_key_is_read_from_the_environment_and_must_be_there() -> None:
    """78, before anything is asked."""
    ended = await command("bench", "http://127.0.0.1:9", "--api-key-env", "NO_SUCH_KEY")

    assert ended.code == 78
    assert "NO_SUCH_KEY is not set" in ended.stderr


async def test_what_is_no_url_is_a_usage_error() -> None:
    """One sentence that names it."""
    ended = await command("bench", "ftp://example.org")

    assert ended.code == 64
    assert "'ftp://example.org' is no URL of an endpoint" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
