"""What an agent tells of itself is true at the moment that it is asked."""

import asyncio
from pathlib import Path

from provider_agent.agent.circuit import FAILURES
from provider_agent.agent.pause import Rest
from provider_agent.agent.report import Report, ports_of
from provider_agent.backends.base import BackendFailed
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.vitals import HardwarePressure
from tests.fakes.backends import ScriptedBackend
from tests.fakes.configs import loaded
from tests.fakes.executors import Bench, executing, job


def report_of(bench: Bench, tmp_path: Path, text: str = "") -> Report:
    config = loaded(tmp_path / "agent.toml", text)
    return Report(config, lambda: bench.executor, clock=asyncio.get_running_loop().time)


async def test_a_heartbeat_says_what_runs_and_what_is_free(tmp_path: Path) -> None:
    """The ordinary case: one job on one engine."""
    backend = ScriptedBackend(asyncio.Event())
    async with executing(backend) as bench:
        report = report_of(bench, tmp_path, "limits.max_concurrent = 4")
        report.catalog = Catalog((CatalogEntry(backend, backend.models, healthy=True),))
        bench.submit(job())
        await bench.settle()
        beat = report.heartbeat()

    assert (beat.active_jobs, beat.free_slots, beat.max_concurrency) == (1, 3, 4)
    assert [(each.name, each.healthy, each.active_jobs) for each in beat.backends] == [
        (backend.name, True, 1)
    ]


async def test_capabilities_hold_the_offer_and_the_operators_words(tmp_path: Path) -> None:
    """The models of the present table, under the present revision."""
    async with executing(ScriptedBackend()) as bench:
        report = report_of(bench, tmp_path, '[operator]\nname = "den"\nlabels = { gpu = "4090" }')
        report.revision = 7
        told = report.capabilities()

    assert (told.revision, [offer.model_id for offer in told.models]) == (7, ["m"])
    assert (told.metadata.name, told.metadata.labels) == ("den", {"gpu": "4090"})


async def test_what_is_not_our_fault_is_no_failure(tmp_path: Path) -> None:
    """A client that leaves or sends nonsense does not make this agent a bad one (field note 45)."""
    backend = ScriptedBackend(asyncio.Event())
    async with executing(backend) as bench:
        report = report_of(bench, tmp_path)
        bench.submit(job("a"), job("b"))
        await bench.settle()
        bench.executor.cancel("a")
        bench.executor.stop_all(ErrorCode.AGENT_SHUTDOWN)
        await bench.settle()
        for ended in bench.ended:
            report.job_ended(ended)
        beat = report.heartbeat()

    assert [each.code for each in beat.recent_failures] == ["agent_shutdown"]
    assert beat.error_rate_60s == 1.0


async def test_what_became_of_the_last_settings_is_on_the_status_page(tmp_path: Path) -> None:
    """Refused, or waiting for a restart; and heartbeats go by those that hold."""
    async with executing(ScriptedBackend()) as bench:
        report = report_of(bench, tmp_path)
        good = report.status("c.example").facts()
        report.settings_refused, report.settings_at_restart = "it is wrong", ("log.format",)
        bad = report.status("c.example").facts()
        report.reconfigure(loaded(tmp_path / "agent.toml", "limits.max_concurrent = 3"))
        beat = report.heartbeat()

    names = ("settings_refused", "settings_at_restart")
    assert [[facts[name] for name in names] for facts in (good, bad)] == [
        [None, ()],
        ["it is wrong", ("log.format",)],
    ]
    assert beat.max_concurrency == 3


async def test_consent_to_tell_of_the_hardware_can_be_given_and_taken_back(tmp_path: Path) -> None:
    """Heartbeats follow, and without it do not even have the field (field note 45)."""
    told: list[bool] = []
    async with executing(ScriptedBackend()) as bench:
        report = report_of(bench, tmp_path)
        for consent in ("true", "false"):
            report.reconfigure(loaded(tmp_path / "agent.toml", f"telemetry.hardware = {consent}"))
            told.append(isinstance(report.heartbeat().hardware_pressure, HardwarePressure))

    assert told == [True, False]


async def test_an_agent_that_rests_has_nothing_on_offer_and_nothing_free(tmp_path: Path) -> None:
    """Until the pause is over; what it could run is kept for that."""
    async with executing(ScriptedBackend()) as bench:
        report = report_of(bench, tmp_path)
        serving = report.capabilities()
        report.rest = lambda: Rest("outside active hours, until 22:00", "this agent rests", 0.0)
        resting, beat, view = report.capabilities(), report.heartbeat(), report.view()
        report.rest = lambda: None

        assert report.capabilities() == serving

    assert (resting.models, beat.free_slots, view.models) == ((), 0, 0)
    assert resting.catalog_fingerprint == beat.catalog_fingerprint != serving.catalog_fingerprint
    assert view.paused == "outside active hours, until 22:00"


def test_the_ports_of_the_engines_are_known() -> None:
    """By them their processes are told from strangers; an engine elsewhere may have none in its address."""
    here, elsewhere = ScriptedBackend(), ScriptedBackend()
    here.url, elsewhere.url = "http://127.0.0.1:11434", "https://gpu.example"

    assert ports_of(Catalog(tuple(CatalogEntry(each, (), healthy=True) for each in (here, elsewhere)))) == {
        11434
    }


async def test_the_status_tells_which_engine_has_which_models(tmp_path: Path) -> None:
    """By the engines' own names for them, where each of several engines of one kind is."""
    async with executing(ScriptedBackend(name="den", models=("m", "n"))) as bench:
        report = report_of(bench, tmp_path)
        backend = ScriptedBackend(name="den", models=("m", "n"))
        report.catalog = Catalog((CatalogEntry(backend, backend.models, healthy=True),))

        assert report.status("c.example").facts()["engines"] == [
            {"name": "den", "url": "http://127.0.0.1:9", "models": ["m", "n"]}
        ]


async def test_the_status_names_what_gets_no_job_because_it_keeps_failing(tmp_path: Path) -> None:
    """Its engine is there and healthy, and still nothing runs (field note 79)."""
    broken = BackendFailed("it failed", http_status=500)
    async with executing(ScriptedBackend(name="den", refuses=broken)) as bench:
        status = report_of(bench, tmp_path).status("c.example")
        assert status.facts()["failing"] == []
        for number in range(FAILURES):
            bench.submit(job(f"j{number}"))
            await bench.settle()

        assert status.facts()["failing"] == [{"backend": "den", "model": "m"}]


async def test_a_job_that_moved_is_counted_where_it_failed_and_where_it_ended(tmp_path: Path) -> None:
    """An engine whose jobs others save is seen in the metrics."""
    broken = ScriptedBackend(name="broken", priority=1, refuses=BackendFailed("no", http_status=500))
    sound = ScriptedBackend(b"x", name="sound", priority=2)
    async with executing(broken, sound) as bench:
        report = report_of(bench, tmp_path)
        bench.submit(job())
        await bench.settle()
        for ended in bench.ended:
            report.job_ended(ended)
        metrics = report.metrics.render().decode()

    assert 'provider_agent_jobs_moved_total{backend="broken",code="backend_error"} 1.0' in metrics
    assert 'provider_agent_jobs_total{backend="sound",outcome="done"} 1.0' in metrics
