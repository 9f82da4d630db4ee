"""An agent that runs as a process of its own takes new settings."""

from pathlib import Path

from tests.fakes.lines import ask, chat, events, line

SLOW = ("--tokens-per-second", "40")


async def test_sighup_applies_the_file_and_the_running_answer_ends_as_usual(tmp_path: Path) -> None:
    """The model is hidden in the middle: the stream is whole, and the next client is offered none."""
    file = tmp_path / "agent.toml"
    async with line(tmp_path, *SLOW) as parts:
        body = chat(stream=True, max_tokens=40, ignore_eos=True)
        async with parts.client.post("/v1/chat/completions", json=body) as response:
            await response.content.readline()
            file.write_text('models.hide = ["tiny"]\n' + file.read_text())
            parts.agent.hang_up()
            applied = await parts.agent.event("settings_applied")
            offers = [await parts.coordinator.event("capabilities_taken")]
            while offers[-1]["models"] or not any(
                offer["models"] for offer in offers
            ):  # the first may be empty
                offers.append(await parts.coordinator.event("capabilities_taken"))
            async with parts.client.get("/v1/models") as listed:
                models = (await listed.json())["data"]
            rest = await response.read()
        parts.agent.stop()
        ended = await parts.agent.end()

    assert applied["keys"] == ["models.hide"]
    assert events(rest)[-1] == "[DONE]"
    assert models == []
    assert ended.code == 0


async def test_a_file_that_is_broken_is_refused_and_one_that_is_mended_applies(tmp_path: Path) -> None:
    """Nobody sends a signal: the agent looks by itself, and serves on meanwhile."""
    file = tmp_path / "agent.toml"
    async with line(tmp_path) as parts:
        good = file.read_text()
        file.write_text(good + "[limits]\nmax_concurrent = 0\n")
        refused = await parts.agent.event("settings_refused")
        status, _ = await ask(parts.client, chat())
        file.write_text(good + "[limits]\nmax_concurrent = 3\n")
        applied = await parts.agent.event("settings_applied")

    assert refused["problem"].startswith(f"{file}, line ")
    assert "limits.max_concurrent must be an integer from 1 to 256, not 0" in refused["problem"]
    assert status == 200
    assert applied["keys"] == ["limits.max_concurrent"]
