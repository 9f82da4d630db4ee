"""The whole agent while its settings change: a real file, a scripted coordinator, a scripted engine."""

import asyncio
from pathlib import Path

from provider_agent.protocol.frames import Capabilities
from tests.fakes.engine import DONE, Answer, FakeEngine, chat_chunk, json_answer, models_page, sse
from tests.fakes.peers import ScriptedCoordinator
from tests.fakes.reloading import ReloadingProcess, reloading
from tests.fakes.running import with_models

ASK = {"messages": [], "stream": True}


def held(gate: asyncio.Event) -> Answer:
    """An answer that begins, and ends once the gate is open."""
    return sse(chat_chunk("Hel"), gate, chat_chunk("lo", "stop"), DONE)


async def begun(peer: ScriptedCoordinator, job_id: str) -> None:
    """Dispatch a job, and wait until its answer has begun."""
    await peer.dispatch(job_id, "tiny", ASK)
    while not peer.answers.get(job_id) or not peer.answers[job_id].chunks:
        await peer.hear()


async def whole(peer: ScriptedCoordinator, job_id: str) -> bool:
    """Whether the answer came to its end, with every byte once."""
    answer = await peer.answer(job_id)
    return answer.done.bytes == len(answer.data) and answer.data.count(b"[DONE]") == 1


async def refused(peer: ScriptedCoordinator, job_id: str) -> str:
    """Why a new job is."""
    await peer.dispatch(job_id, "tiny", ASK)
    return (await peer.answer(job_id)).error.error_code


def offers(capabilities: Capabilities) -> list[str]:
    return [model.model_id for model in capabilities.models]


async def test_new_settings_hold_at_once_and_a_running_job_does_not_notice(tmp_path: Path) -> None:
    """The ordinary case: limits, prices and what is said of the agent are announced in the same session."""
    gate = asyncio.Event()
    told: list[Capabilities] = []
    async with FakeEngine() as engine:
        engine.will_answer(held(gate))
        process: ReloadingProcess

        async def play(peer: ScriptedCoordinator) -> None:
            told.append(await with_models(peer))
            await begun(peer, "j")
            await process.rewrite(
                'limits.max_concurrent = 3\noperator.name = "den"\npricing.default_input_per_1m = 7'
            )
            told.append(await peer.until(Capabilities))
            gate.set()
            assert await whole(peer, "j")
            process.stop.set()

        async with reloading(tmp_path, play, engine) as process:
            pass

    before, after = told
    assert after.revision == before.revision + 1
    assert (after.limits.max_concurrent_total, after.metadata.name) == (3, "den")
    assert after.models[0].input_per_1m == 7
    assert process.facts("settings_applied") == [
        {
            "keys": ("operator.name", "pricing.default_input_per_1m", "limits.max_concurrent"),
            "at_restart": (),
        }
    ]
    assert (process.exit_code, process.names.count("connected")) == (0, 1)


async def test_settings_that_cannot_be_used_change_nothing(tmp_path: Path) -> None:
    """Not even the part of them that is right; whoever watches hears the sentence of a start."""
    gate = asyncio.Event()
    async with FakeEngine() as engine:
        engine.will_answer(held(gate))
        process: ReloadingProcess

        async def play(peer: ScriptedCoordinator) -> None:
            first = await with_models(peer)
            await begun(peer, "j")
            await process.rewrite('models.hide = ["tiny"]\nlimits.max_concurrent = 0')
            gate.set()
            assert await whole(peer, "j")
            await begun(peer, "k")
            assert await whole(peer, "k")
            await process.rewrite("limits.max_concurrent = 2")
            assert (await peer.until(Capabilities)).revision == first.revision + 1
            process.stop.set()

        async with reloading(tmp_path, play, engine) as process:
            pass

    (refusal,) = process.facts("settings_refused")
    assert "limits.max_concurrent must be an integer from 1 to 256, not 0" in str(refusal["problem"])


async def test_fewer_slots_than_jobs_end_no_job_and_let_none_in(tmp_path: Path) -> None:
    """The next one is taken when there is room again."""
    gate = asyncio.Event()
    codes: list[str] = []
    async with FakeEngine() as engine:
        engine.will_answer(held(gate), held(gate))
        process: ReloadingProcess

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await begun(peer, "a")
            await begun(peer, "b")
            await process.rewrite("limits.max_concurrent = 1")
            codes.append(await refused(peer, "c"))
            gate.set()
            assert await whole(peer, "a")
            assert await whole(peer, "b")
            await begun(peer, "d")
            assert await whole(peer, "d")
            process.stop.set()

        async with reloading(tmp_path, play, engine) as process:
            pass

    assert codes == ["out_of_capacity"]


async def test_a_model_that_is_hidden_now_finishes_what_it_runs(tmp_path: Path) -> None:
    """It is not offered any more, and a new job for it is refused (field note 24)."""
    gate = asyncio.Event()
    codes: list[str] = []
    async with FakeEngine() as engine:
        engine.will_answer(held(gate))
        process: ReloadingProcess

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await begun(peer, "j")
            await process.rewrite('models.hide = ["tiny"]')
            assert offers(await peer.until(Capabilities)) == []
            codes.append(await refused(peer, "k"))
            gate.set()
            assert await whole(peer, "j")
            process.stop.set()

        async with reloading(tmp_path, play, engine) as process:
            pass

    assert codes == ["model_not_loaded"]


async def test_an_engine_that_is_taken_out_finishes_what_it_runs(tmp_path: Path) -> None:
    """And another one that is named instead gets the next jobs."""
    gate = asyncio.Event()
    async with FakeEngine() as old, FakeEngine(models=("tiny", "other")) as new:
        old.will_answer(held(gate))
        process: ReloadingProcess

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await begun(peer, "j")
            await process.rewrite(engines=f'[[backends]]\nkind = "openai"\nurl = "{new.url}"\n')
            while "other" not in offers(await peer.until(Capabilities)):
                pass
            await begun(peer, "k")
            gate.set()
            assert await whole(peer, "j")
            assert await whole(peer, "k")
            process.stop.set()

        async with reloading(tmp_path, play, old) as process:
            pass

    assert (len(old.posts), len(new.posts)) == (1, 1)


async def test_jobs_of_an_engine_count_whichever_settings_they_began_with(tmp_path: Path) -> None:
    """A backend with another key and a limit is the same engine, with the same load."""
    gate = asyncio.Event()
    codes: list[str] = []
    async with FakeEngine() as engine:
        engine.will_answer(held(gate))
        process: ReloadingProcess

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await begun(peer, "a")
            (tmp_path / "key").write_text("secret")
            await process.rewrite(backend='max_concurrent = 1\napi_key_file = "key"')
            codes.append(await refused(peer, "b"))
            gate.set()
            assert await whole(peer, "a")
            await begun(peer, "c")
            assert await whole(peer, "c")
            process.stop.set()

        async with reloading(tmp_path, play, engine) as process:
            pass

    assert codes == ["out_of_capacity"]
    assert [post.headers.get("authorization") for post in engine.posts] == [None, "Bearer secret"]


async def test_what_needs_a_restart_is_named_and_the_rest_applies(tmp_path: Path) -> None:
    """The session stays with the coordinator that it has."""
    async with FakeEngine() as engine:
        process: ReloadingProcess

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await process.rewrite('coordinator.proxy = "http://127.0.0.1:9"\nlimits.max_concurrent = 2')
            assert (await peer.until(Capabilities)).limits.max_concurrent_total == 2
            process.stop.set()

        async with reloading(tmp_path, play, engine) as process:
            pass

    (applied,) = process.facts("settings_applied")
    assert applied == {"keys": ("limits.max_concurrent",), "at_restart": ("coordinator.proxy",)}


async def test_what_the_coordinator_need_not_know_is_not_announced(tmp_path: Path) -> None:
    """Time limits, for example."""
    codes: list[str] = []
    async with FakeEngine() as engine:
        gate = asyncio.Event()
        engine.will_answer(held(gate))
        process: ReloadingProcess

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await process.rewrite("limits.idle_timeout_s = 0.1")
            await peer.dispatch("j", "tiny", ASK)
            codes.append((await peer.answer("j")).error.error_code)
            told = [frame for frame in peer.heard if isinstance(frame, Capabilities)]
            assert told[-1].models
            assert len([each for each in told if each.models]) == 1
            process.stop.set()

        async with reloading(tmp_path, play, engine) as process:
            pass

    assert codes == ["idle_timeout"]


async def test_a_job_that_is_answered_404_brings_the_engines_new_models(tmp_path: Path) -> None:
    """It was started anew with another model between two looks, an hour apart here."""
    told: list[list[str]] = []
    async with FakeEngine() as engine:
        process: ReloadingProcess

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            engine.pages["/v1/models"] = models_page("other")
            engine.will_answer(json_answer({"error": {"message": "no such model"}}, 404))
            assert await refused(peer, "j") == "model_not_loaded"
            told.append(offers(await peer.until(Capabilities)))
            process.stop.set()

        async with reloading(tmp_path, play, engine) as process:
            pass

    assert told == [["other"]]


async def test_an_engine_that_swaps_its_models_ends_no_job(tmp_path: Path) -> None:
    """The next look announces what it has now; the job that it runs goes on."""
    gate = asyncio.Event()
    async with FakeEngine() as engine:
        engine.will_answer(held(gate))
        process: ReloadingProcess

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await begun(peer, "j")
            engine.pages["/v1/models"] = models_page("other")
            assert offers(await peer.until(Capabilities)) == ["other"]
            assert await refused(peer, "k") == "model_not_loaded"
            gate.set()
            assert await whole(peer, "j")
            process.stop.set()

        async with reloading(tmp_path, play, engine, interval_s=1) as process:
            pass


async def test_an_engine_that_does_not_answer_looks_ends_no_job(tmp_path: Path) -> None:
    """It is withdrawn, works on at what it has, and is offered again when it answers."""
    gate = asyncio.Event()
    async with FakeEngine() as engine:
        engine.will_answer(held(gate))
        process: ReloadingProcess

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await begun(peer, "j")
            page = engine.pages["/v1/models"]
            engine.pages["/v1/models"] = json_answer({}, 500)
            assert offers(await peer.until(Capabilities)) == []
            engine.pages["/v1/models"] = page
            assert offers(await peer.until(Capabilities)) == ["tiny"]
            gate.set()
            assert await whole(peer, "j")
            process.stop.set()

        async with reloading(tmp_path, play, engine, "discovery.grace_s = 0", interval_s=1) as process:
            pass


async def test_changes_that_come_all_at_once_are_announced_together(tmp_path: Path) -> None:
    """A coordinator of many agents is not flooded, and knows the last of them."""
    told: list[Capabilities] = []
    async with FakeEngine() as engine:
        process: ReloadingProcess

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            for number in range(20):
                await process.rewrite(f'operator.name = "den-{number}"')
            while not told or told[-1].metadata.name != "den-19":
                told.append(await peer.until(Capabilities))
            process.stop.set()

        async with reloading(tmp_path, play, engine) as process:
            pass

    assert len(told) < 10
    assert [each.revision for each in told] == list(range(told[0].revision, told[0].revision + len(told)))
