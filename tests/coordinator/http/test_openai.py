"""OpenAI's clients see the models of the whole fleet; what becomes of their jobs is in `test_serving.py`."""

from provider_agent.protocol.frames import Job
from tests.fakes.agents import EMBEDDINGS, capabilities, offer
from tests.fakes.coordinators import front, until


async def test_the_models_of_the_fleet_are_listed_once_each() -> None:
    """Whoever serves them, embeddings-only ones included (field note 72)."""
    async with front() as it:
        first, second = await it.agent("llama3.2:3b", "org/m"), await it.agent("org/m")
        await second.say(capabilities(offer("org/m"), offer("nomic", endpoints=(EMBEDDINGS,)), revision=2))
        await until(lambda: "nomic" in it.dispatcher.fleet.models)
        async with it.client.get("/v1/models") as response:
            listed = await response.json()
        async with it.client.get("/v1/models/org/m") as response:
            shown = await response.json()
        async with it.client.get("/v1/models/none") as response:
            missing = response.status
        assert first.provider_id != second.provider_id

    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["llama3.2:3b", "nomic", "org/m"]
    assert listed["data"][1]["endpoints"] == [EMBEDDINGS]
    assert (shown, 404) == (listed["data"][2], missing)
    assert (shown["object"], shown["created"], shown["owned_by"]) == (
        "model",
        1_700_000_000,
        "provider-agent",
    )


async def test_a_name_without_a_tag_means_the_latest() -> None:
    """As at Ollama's own `/v1`, whose clients have left it out for years."""
    async with front() as it:
        agent = await it.agent("m:latest")
        async with it.client.get("/v1/models/m") as response:
            assert (await response.json())["id"] == "m:latest"
        asking = it.ask()
        job = await agent.expect(Job)
        await agent.done(job.job_id)
        await asking

        assert job.model_id == "m:latest"


async def test_the_smallest_context_window_of_a_model_is_shown() -> None:
    """Whoever gets the request can hold so much."""
    async with front() as it:
        first, second = await it.agent("other"), await it.agent("other")
        await first.say(capabilities(offer("m", window=8192), revision=2))
        await second.say(capabilities(offer("m", window=4096), revision=2))
        await until(lambda: len(it.dispatcher.fleet.models.get("m", ())) == 2)
        async with it.client.get("/v1/models/m") as response:
            assert (await response.json())["context_window"] == 4096
